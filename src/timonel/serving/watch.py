"""What any worker tells of all of them, for /health and /metrics."""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from timonel.serving.roster import Report, Roster, read_roster
from timonel.serving.routing import Routes

__all__ = ["Watch"]


class Watch:
    """Looks at the workers of this process's supervisor; without one, at this process alone."""

    def __init__(self, routes: Routes, serving_folder: Path, worker: str) -> None:
        self._routes = routes
        self._folder = serving_folder
        self._number = int(worker) if worker.isdecimal() else 0

    def troubles(self) -> list[str]:
        """Sentences on workers that do not come up, and on versions that one cannot load."""
        return self._roster().troubles()

    def collect(self) -> Iterator[Metric]:
        """The metrics that are not counted but looked up."""
        roster = self._roster()
        workers = GaugeMetricFamily(
            "timonel_workers",
            "Workers that answer (ready), and those that there should be (wanted).",
            labels=["state"],
        )
        workers.add_metric(["ready"], len(roster.ready()))
        workers.add_metric(["wanted"], len(roster.workers))
        yield workers
        loaded = GaugeMetricFamily(
            "timonel_version_loaded",
            "1 for each version that a worker holds ready.",
            labels=["worker", "version"],
        )
        for worker in roster.workers:
            for label in worker.loaded:
                loaded.add_metric([str(worker.number), label], 1)
        yield loaded
        champions = GaugeMetricFamily(
            "timonel_champion_info",
            "1 for the version that is champion of a model.",
            labels=["project", "model", "version"],
        )
        for champion in self._routes.state.champions:
            champions.add_metric([champion.project, champion.model, champion.label], 1)
        yield champions
        swaps = CounterMetricFamily(
            "timonel_swaps",
            "Changes of champion since the server began: promote or rollback.",
            labels=["project", "model", "kind"],
        )
        for swap in roster.swaps:
            swaps.add_metric([swap.project, swap.model, swap.kind], swap.count)
        yield swaps

    def _roster(self) -> Roster:
        roster, parent = read_roster(self._folder), os.getppid()
        if roster is not None and roster.pid == parent:
            return roster
        routes, pid = self._routes, os.getpid()
        report = Report(self._number, pid, True, routes.labels(), routes.loaded())
        return Roster(pid=pid, address="", workers=(report,))

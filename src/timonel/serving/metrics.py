"""What is counted while serving: Prometheus metrics, summed over all workers.

prometheus-client keeps each process's values in a memory-mapped file of the folder named by
PROMETHEUS_MULTIPROC_DIR, which the supervisor sets for its workers; a scrape of any worker adds
the files up, those of dead workers included, so that counters never fall. Writing there costs more
than a small model does, so what requests count is kept here first and written in groups.
"""

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

__all__ = ["Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class _Histogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """How many observations each bucket gained, and their sum."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


class _Seconds:
    """Observations that are not yet in a histogram."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.total = 0.0


class Metrics:
    """The metrics of one process, used from its event loop.

    Requests are counted at once in this object, and for other processes when `flush` is called.
    `watch` adds what is looked up at each scrape.
    """

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, watch: Collector | None = None) -> None:
        self._watch = watch
        self._new_requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._new_rows: defaultdict[str, int] = defaultdict(int)
        self._new_seconds: defaultdict[str, _Seconds] = defaultdict(_Seconds)
        self._new_refusals: defaultdict[str, int] = defaultdict(int)
        self._registry = CollectorRegistry()
        if watch is not None:
            self._registry.register(watch)
        self._requests = Counter(
            "timonel_requests_total",
            "Prediction requests by project and HTTP status.",
            ["project", "status"],
            registry=self._registry,
        )
        self._rows = Counter(
            "timonel_predictions_total",
            "Rows predicted, by the version that answered.",
            ["version"],
            registry=self._registry,
        )
        self._seconds = _Histogram(
            "timonel_request_seconds",
            "Time from the first byte of a prediction request to its reply.",
            ["project"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._refusals = Counter(
            "timonel_refused_total",
            "Requests refused at the door, by reason; timonel_requests_total is without them.",
            ["reason"],
            registry=self._registry,
        )
        self._cache = Counter(
            "timonel_cache_total",
            "Requests of projects with an answers cache: hit where no model had to run.",
            ["project", "outcome"],
            registry=self._registry,
        )
        self._labels = Counter(
            "timonel_feedback_total",
            "Labels that were said of predictions, by project.",
            ["project"],
            registry=self._registry,
        )
        self._lost, self._refused = (
            Counter(name, sentence, registry=self._registry)
            for name, sentence in (
                ("timonel_journal_lost_total", "Answers given without a journal record: an alarm."),
                ("timonel_journal_refused_total", "Answers refused for want of a journal record."),
            )
        )
        self._short = Gauge(
            "timonel_journal_short",
            "Workers that cannot reserve space ahead: an alarm.",
            multiprocess_mode="sum",
            registry=self._registry,
        )
        self._known = (0, 0)

    def request(self, project: str, status: int, seconds: float) -> None:
        """Count one prediction request."""
        self._new_requests[project, status] += 1
        spent = self._new_seconds[project]
        spent.counts[bisect_left(_SECONDS, seconds)] += 1
        spent.total += seconds

    def predicted(self, version: str, rows: int) -> None:
        """Count rows that a version answered."""
        self._new_rows[version] += rows

    def refused(self, reason: str) -> None:
        """Count one request that was refused before it was read."""
        self._new_refusals[reason] += 1

    def flush(self) -> None:
        """Write down what was counted since the last time."""
        requests, self._new_requests = self._new_requests, defaultdict(int)
        rows, self._new_rows = self._new_rows, defaultdict(int)
        seconds, self._new_seconds = self._new_seconds, defaultdict(_Seconds)
        for (project, status), count in requests.items():
            self._requests.labels(project, status).inc(count)
        refusals, self._new_refusals = self._new_refusals, defaultdict(int)
        for reason, count in refusals.items():
            self._refusals.labels(reason).inc(count)
        for version, count in rows.items():
            self._rows.labels(version).inc(count)
        for project, spent in seconds.items():
            self._seconds.labels(project).add(spent.counts, spent.total)

    def cached(self, project: str, outcome: str) -> None:
        """Count one request by its cache's outcome, `hit` or `miss`."""
        self._cache.labels(project, outcome).inc()

    def said(self, project: str, labels: int) -> None:
        """Count labels that were recorded."""
        self._labels.labels(project).inc(labels)

    def journal(self, *, lost: int, refused: int, short: bool) -> None:
        """Set how this process's journal fares; see `Journal` for the three."""
        before_lost, before_refused = self._known
        self._known = lost, refused
        self._lost.inc(lost - before_lost)
        self._refused.inc(refused - before_refused)
        self._short.set(short)

    def render(self) -> bytes:
        """The text for a scrape, summed over the workers where there are several."""
        self.flush()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            if self._watch is not None:
                registry.register(self._watch)
            return generate_latest(registry)
        return generate_latest(self._registry)

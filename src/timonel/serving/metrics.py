"""What is counted while serving: Prometheus metrics, summed over all workers.

prometheus-client keeps each process's values in a memory-mapped file of the folder named by
PROMETHEUS_MULTIPROC_DIR, which the supervisor sets for its workers; a scrape of any worker adds
the files up, those of dead workers included, so that counters never fall.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one process."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
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
        self._seconds = Histogram(
            "timonel_request_seconds",
            "Time from the first byte of a prediction request to its reply.",
            ["project"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._cache = Counter(
            "timonel_cache_total",
            "Requests of projects with an answers cache: hit where no model had to run.",
            ["project", "outcome"],
            registry=self._registry,
        )
        self._lost, self._refused, self._short = (
            Gauge(name, sentence, multiprocess_mode="sum", registry=self._registry)
            for name, sentence in (
                ("timonel_journal_lost", "Answers given without a journal record: an alarm."),
                ("timonel_journal_refused", "Answers refused because they could not be recorded."),
                ("timonel_journal_short", "Workers that cannot reserve space ahead: an alarm."),
            )
        )

    def request(self, project: str, status: int, seconds: float) -> None:
        """Count one prediction request."""
        self._requests.labels(project, status).inc()
        self._seconds.labels(project).observe(seconds)

    def predicted(self, version: str, rows: int) -> None:
        """Count rows that a version answered."""
        self._rows.labels(version).inc(rows)

    def cached(self, project: str, outcome: str) -> None:
        """Count one request by its cache's outcome, `hit` or `miss`."""
        self._cache.labels(project, outcome).inc()

    def journal(self, *, lost: int, refused: int, short: bool) -> None:
        """Set how this process's journal fares; see `Journal` for the three."""
        self._lost.set(lost)
        self._refused.set(refused)
        self._short.set(short)

    def render(self) -> bytes:
        """The text for a scrape, summed over the workers where there are several."""
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry)

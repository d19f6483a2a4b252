"""
The metrics in Prometheus' text format. The names below are a promise to those
who have made alarms and plots of them: they may be added to, not changed. No
label has a value that a peer could choose, so that their number is bounded;
nothing names a patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from attrs import field, frozen
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from zope.interface import implementer

from d360.interfaces import IExposition
from d360.metrics.counters import BOUNDS, Work, classOf
from d360.model import DiskSpace

#: What we reject for, by result, source and reason of PS3.8 Table 9-21.
REASONS = {
    (1, 1, 1): "maximum PDU length",
    (1, 1, 2): "application context",
    (1, 1, 3): "calling AE title",
    (1, 1, 7): "called AE title",
    (1, 2, 2): "protocol version",
    (2, 3, 1): "temporary congestion",
    (2, 3, 2): "local limit exceeded",
}


@frozen
class Reading:
    """
    A number that is read when it is asked for.

    @ivar isCounter: it only grows.
    """

    name: str
    help: str
    read: Callable[[], float]
    labels: dict[str, str] = field(factory=dict)
    isCounter: bool = False


def _byReason(rejected: Mapping[tuple[int, int, int], int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for triple, count in rejected.items():
        found[REASONS.get(triple, "other")] += count
    return found


def _counter(
    name: str, text: str, label: str, values: Iterable[tuple[str, float]]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


class _Work(Collector):
    """What was counted."""

    def __init__(self, work: Callable[[], Work]) -> None:
        self._work = work

    def collect(self) -> Iterator[Metric]:
        """See L{Collector.collect}."""
        metrics = self._work()
        yield _counter(
            "d360_associations_rejected",
            "Associations that we rejected, by reason (PS3.8 Table 9-21).",
            "reason",
            _byReason(metrics.rejected).items(),
        )
        yield CounterMetricFamily(
            "d360_connections_refused",
            "Connections closed at once, because too many were open.",
            metrics.refusedConnections,
        )
        yield _counter(
            "d360_associations_requested",
            "Associations that we requested, by outcome.",
            "outcome",
            metrics.requested.items(),
        )
        yield from self._operations(metrics)
        for name, text, value in (
            ("received_bytes", "Bytes of messages received", metrics.received),
            ("sent_bytes", "Bytes of messages sent", metrics.sent),
        ):
            text += ", on associations that peers requested."
            yield CounterMetricFamily(f"d360_{name}", text, value)
        yield CounterMetricFamily(
            "d360_instances_stored", "Instances stored.", metrics.stored
        )
        yield CounterMetricFamily(
            "d360_instances_stored_bytes",
            "Bytes of the data sets of the instances stored.",
            metrics.storedBytes,
        )
        yield _counter(
            "d360_suboperations",
            "Instances to be sent by C-MOVE and C-GET, by what became of them.",
            "outcome",
            [
                ("completed", metrics.subOperationsCompleted),
                ("failed", metrics.subOperationsFailed),
            ],
        )
        yield CounterMetricFamily(
            "d360_instances_retrieved_bytes",
            "Bytes of the data sets sent by C-MOVE and C-GET, as they are stored.",
            metrics.retrievedBytes,
        )

    def _operations(self, work: Work) -> Iterator[Metric]:
        operations = CounterMetricFamily(
            "d360_operations",
            "Operations of peers, by final status; lost with their association: none.",
            labels=["service", "class", "status"],
        )
        durations = HistogramMetricFamily(
            "d360_operation_duration_seconds",
            "From an operation's request to its final response.",
            labels=["service"],
        )
        for service, tally in work.operations.items():
            for status, count in tally.statuses.items():
                code = "none" if status is None else f"{status:04X}"
                operations.add_metric([service, classOf(status), code], count)
            buckets: list[tuple[str, float]] = []
            total = 0
            for bound, count in zip((*BOUNDS, "+Inf"), tally.buckets, strict=True):
                total += count
                buckets.append((str(bound), total))
            durations.add_metric([service], buckets, tally.seconds)
        yield operations
        yield durations


class _Readings(Collector):
    """What is read elsewhere, and what the last question has brought."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings
        self.databaseAnswers = False
        self.space: DiskSpace | None = None

    def collect(self) -> Iterator[Metric]:
        """See L{Collector.collect}."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for reading in self._readings:
            family = families.get(reading.name)
            if family is None:
                kind = CounterMetricFamily if reading.isCounter else GaugeMetricFamily
                family = kind(reading.name, reading.help, labels=list(reading.labels))
                families[reading.name] = family
            family.add_metric(list(reading.labels.values()), reading.read())
        yield from families.values()
        yield GaugeMetricFamily(
            "d360_database_up",
            "1 if the database answers in time, else 0.",
            int(self.databaseAnswers),
        )
        if self.space is not None:
            yield GaugeMetricFamily(
                "d360_disk_total_bytes",
                "Size of the archive's file system.",
                self.space.total,
            )
            yield GaugeMetricFamily(
                "d360_disk_free_bytes",
                "What is free of it.",
                self.space.free,
            )


@implementer(IExposition)
class Exposition:
    """
    See L{IExposition}.

    @param work: tells what was counted up to now.
    @param readings: numbers kept elsewhere. Those of one name have the same
        labels.
    """

    contentType = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, work: Callable[[], Work], readings: Sequence[Reading]) -> None:
        self._registry = CollectorRegistry()
        self._readings = _Readings(readings)
        self._registry.register(_Work(work))
        self._registry.register(self._readings)
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    def text(self, databaseAnswers: bool, space: DiskSpace | None) -> bytes:
        """See L{IExposition.text}."""
        self._readings.databaseAnswers = databaseAnswers
        self._readings.space = space
        return generate_latest(self._registry)

    def processText(self) -> bytes:
        """See L{IExposition.processText}."""
        return generate_latest(self._process)

"""Tests for L{d360.metrics.exposition}: the text that Prometheus reads."""

from __future__ import annotations

import ast
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import d360
from d360.interfaces import IExposition
from d360.metrics.counters import Metrics, Work
from d360.metrics.exposition import REASONS, Exposition, Reading
from d360.model import DiskSpace


class ExpositionTests(SynchronousTestCase):
    """Names and labels are a promise to those who watch."""

    def setUp(self) -> None:
        self.metrics = Metrics(Clock())
        self.waiting = 3
        self.exposition = Exposition(
            lambda: self.metrics,
            [
                Reading("d360_associations_live", "Live.", lambda: 2),
                Reading("d360_associations_accepted", "All.", lambda: 9, {}, True),
                Reading("d360_queue", "Q.", lambda: self.waiting, {"queue": "disk"}),
                Reading("d360_queue", "Q.", lambda: 5, {"queue": "index"}),
            ],
        )

    def samples(
        self, answers: bool = True, space: DiskSpace | None = None
    ) -> dict[str, float]:
        """Each sample by its name and labels, as the text has them."""
        text = self.exposition.text(answers, space) + self.exposition.processText()
        found = {}
        for family in text_string_to_metric_families(text.decode()):
            self.assertTrue(family.documentation, family.name)
            for sample in family.samples:
                labels = ",".join(
                    f'{k}="{v}"' for k, v in sorted(sample.labels.items())
                )
                name = f"{sample.name}{{{labels}}}" if labels else sample.name
                self.assertNotIn(name, found)
                found[name] = sample.value
        return found

    def test_interface(self) -> None:
        verifyObject(IExposition, self.exposition)
        self.assertIn("version=0.0.4", self.exposition.contentType)

    def test_readings(self) -> None:
        """They are read each time; those of one name are one family."""
        samples = self.samples()
        self.assertEqual(samples["d360_associations_live"], 2)
        self.assertEqual(samples["d360_associations_accepted_total"], 9)
        self.assertEqual(samples['d360_queue{queue="disk"}'], 3)
        self.assertEqual(samples['d360_queue{queue="index"}'], 5)
        self.waiting = 4
        self.assertEqual(self.samples()['d360_queue{queue="disk"}'], 4)

    def test_operations(self) -> None:
        """By service, class and status; durations add up over the buckets."""
        self.metrics.operationEnded("C-STORE", 0x0000, 0.002, 10)
        self.metrics.operationEnded("C-STORE", 0xA700, 0.02, 10)
        self.metrics.operationEnded("C-STORE", None, 700, 10)
        samples = self.samples()
        name = "d360_operations_total"
        for labels in (
            'class="success",service="C-STORE",status="0000"',
            'class="failure",service="C-STORE",status="A700"',
            'class="lost",service="C-STORE",status="none"',
        ):
            self.assertEqual(samples[f"{name}{{{labels}}}"], 1)
        name = "d360_operation_duration_seconds"
        for bound, count in (("0.001", 0), ("0.0025", 1), ("0.025", 2), ("+Inf", 3)):
            labels = f'le="{bound}",service="C-STORE"'
            self.assertEqual(samples[f"{name}_bucket{{{labels}}}"], count)
        self.assertEqual(samples[f'{name}_count{{service="C-STORE"}}'], 3)
        self.assertAlmostEqual(samples[f'{name}_sum{{service="C-STORE"}}'], 700.022)
        self.assertEqual(samples["d360_instances_stored_total"], 1)
        self.assertEqual(samples["d360_instances_stored_bytes_total"], 10)

    def test_associations(self) -> None:
        """Rejected ones by reason, ours by outcome."""
        self.metrics.associationRejected(1, 1, 7)
        self.metrics.associationRejected(1, 1, 7)
        self.metrics.associationRejected(2, 3, 2)
        self.metrics.associationRejected(1, 1, 10)
        self.metrics.associationRejected(1, 3, 7)
        self.metrics.connectionRefused()
        self.metrics.associationRequested("accepted")
        samples = self.samples()
        name = "d360_associations_rejected_total"
        for reason, count in (
            ("called AE title", 2),
            ("local limit exceeded", 1),
            ("other", 2),
        ):
            self.assertEqual(samples[f'{name}{{reason="{reason}"}}'], count)
        self.assertEqual(samples["d360_connections_refused_total"], 1)
        name = "d360_associations_requested_total"
        self.assertEqual(samples[f'{name}{{outcome="accepted"}}'], 1)

    def test_reasons(self) -> None:
        """Each of the reasons for which we reject has its words."""
        found = set()
        for path in Path(d360.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "AssociationRejected"
                    and all(isinstance(one, ast.Constant) for one in node.args[:3])
                ):
                    found.add(tuple(one.value for one in node.args[:3]))
        self.assertEqual(found, set(REASONS))

    def test_traffic(self) -> None:
        """Bytes and sub-operations."""
        self.metrics.bytesReceived(11)
        self.metrics.bytesSent(22)
        self.metrics.subOperationsEnded(1, 0, 33)
        self.metrics.subOperationsEnded(0, 2, 0)
        samples = self.samples()
        self.assertEqual(samples["d360_received_bytes_total"], 11)
        self.assertEqual(samples["d360_sent_bytes_total"], 22)
        self.assertEqual(samples["d360_instances_retrieved_bytes_total"], 33)
        name = "d360_suboperations_total"
        self.assertEqual(samples[f'{name}{{outcome="completed"}}'], 1)
        self.assertEqual(samples[f'{name}{{outcome="failed"}}'], 2)

    def test_database(self) -> None:
        """Whether it answers."""
        self.assertEqual(self.samples(True)["d360_database_up"], 1)
        self.assertEqual(self.samples(False)["d360_database_up"], 0)

    def test_disk(self) -> None:
        """Its space; nothing where that is not known."""
        samples = self.samples(True, DiskSpace(100, 40))
        self.assertEqual(samples["d360_disk_total_bytes"], 100)
        self.assertEqual(samples["d360_disk_free_bytes"], 40)
        self.assertNotIn("d360_disk_free_bytes", self.samples())

    def test_process(self) -> None:
        """Memory, time and open files of the process."""
        samples = self.samples()
        for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds"):
            self.assertGreater(samples[f"process_{name}"], 0)

    def test_ownRegistry(self) -> None:
        """Two in one process do not meet."""
        other = Exposition(Work, [])
        self.metrics.connectionRefused()
        self.assertIn(b"d360_connections_refused_total 0.0\n", other.text(True, None))

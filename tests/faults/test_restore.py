"""Backups while a client goes on storing, and what is restored from them."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.faults.restore import SCENARIOS, Wrong, documented


class RestoreTests(SynchronousTestCase):
    """
    Each procedure of C{docs/administration.rst}, by its own commands; see
    L{tests.faults.restore} for what must be so afterwards.
    """

    def restore(self, name: str) -> None:
        figures = SCENARIOS[name](Path(self.mktemp()).absolute(), 1.0)
        self.assertGreaterEqual(figures.found, 40)
        self.assertGreaterEqual(figures.intact, figures.found)

    def test_embedded(self) -> None:
        """Database and files, restored to a new machine."""
        self.restore("embedded")

    def test_external(self) -> None:
        """The same with a PostgreSQL of one's own."""
        self.restore("external")

    def test_files(self) -> None:
        """The files alone, and what d360ctl tells of the rest."""
        self.restore("files")

    def test_index(self) -> None:
        """The database's folder is gone."""
        self.restore("index")

    def test_major(self) -> None:
        """The embedded PostgreSQL gets another major version."""
        self.restore("major")


class DocumentedTests(SynchronousTestCase):
    """The commands are those that are written down."""

    def test_others(self) -> None:
        self.assertRaises(Wrong, documented, "rm -rf")
        self.assertRaises(Wrong, documented, "d360ctl")
        self.assertIn("--prune", documented("d360ctl reindex --prune"))

"""The statement in C{docs/} is what the code says of itself."""

from __future__ import annotations

import ast
import difflib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import d360
from d360 import composition
from d360.conformance import facts
from d360.conformance.document import statement
from d360.conformance.statuses import STATUSES
from d360.dimse import status
from d360.interfaces import IServiceClass
from d360.services.registry import ServiceRegistry
from tests.test_tap import ServiceTestCase

PACKAGE = Path(d360.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "conformance.rst"


class DocumentTests(SynchronousTestCase):
    """C{python -m d360.conformance > docs/conformance.rst}."""

    def test_upToDate(self) -> None:
        """It is written anew whenever a registry changes."""
        kept, now = DOCUMENT.read_text("utf-8"), statement()
        changes = "\n".join(
            difflib.unified_diff(kept.splitlines(), now.splitlines(), lineterm="", n=1)
        )
        if changes:
            self.fail(
                "run: python -m d360.conformance > docs/conformance.rst\n" + changes
            )

    def test_command(self) -> None:
        """The command writes it, with the same bytes."""
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
        written = subprocess.run(
            [sys.executable, "-m", "d360.conformance"],
            env=environment,
            capture_output=True,
            check=True,
        )
        self.assertEqual(written.stdout, statement().encode())

    def test_lines(self) -> None:
        """Headings have lines of their own length, and nothing is left open."""
        lines = statement().splitlines()
        for above, line in pairwise(lines):
            if line and line[0] in "=-~^" and not line.strip(line[0]) and above:
                self.assertEqual(len(line), len(above))
        self.assertNotIn("None", statement())


class ServicesTests(ServiceTestCase):
    """The services of the statement are those of the server."""

    def test_services(self) -> None:
        """Class by class, with the same SOP classes and transfer syntaxes."""
        found: list[IServiceClass] = []

        class Recording(ServiceRegistry):
            def __init__(self, services, *arguments):
                found.extend(services)
                super().__init__(found, *arguments)

        self.patch(composition, "ServiceRegistry", Recording)
        self.make()
        ours, stated = self.described(found), self.described(facts.SERVICES)
        self.assertEqual(sorted(ours), sorted(stated))
        for name, served in ours.items():
            self.assertEqual(served, stated[name], name)

    def described(self, services):
        return {
            type(one).__name__: {
                uid: one.transferSyntaxesFor(uid) for uid in one.sopClasses
            }
            for one in services
        }


_RETRIEVE = (
    *("retrieve.py", "selection.py", "matching.py"),
    *("suboperations.py", "permitted.py"),
)

#: The modules whose code answers the operations of a service, beside
#: C{association.py} and C{operation.py}.
MODULES = {
    "C-ECHO": ("verification.py",),
    "C-STORE": ("storage.py", "permitted.py"),
    "C-FIND": (
        *("find.py", "matching.py", "answering.py"),
        *("worklist.py", "worklistquestions.py", "permitted.py"),
    ),
    "C-MOVE": _RETRIEVE,
    "C-GET": _RETRIEVE,
}

#: Named there, and no answer to this.
NOT_ANSWERED = {
    # Out of resources has several values; each service has its own.
    "C-GET": {
        status.MOVE_DESTINATION_UNKNOWN,
        status.OUT_OF_RESOURCES,
        status.PROCESSING_FAILURE,
    },
    "C-MOVE": {status.OUT_OF_RESOURCES, status.PROCESSING_FAILURE},
    "C-STORE": {status.UNABLE_TO_CALCULATE_MATCHES, status.PROCESSING_FAILURE},
    "C-FIND": {status.UNABLE_TO_CALCULATE_MATCHES, status.PROCESSING_FAILURE},
    # What we say of a remote AE that we have sent a C-ECHO to.
    "C-ECHO": {status.SOP_CLASS_NOT_SUPPORTED},
}


def namedIn(node: ast.AST) -> set[int]:
    """The statuses that code names."""
    return {
        getattr(status, name)
        for one in ast.walk(node)
        for name in (getattr(one, "attr", ""), getattr(one, "id", ""))
        if name.isupper() and isinstance(getattr(status, name, None), int)
    }


def parsed(name: str) -> ast.Module:
    """A module of the services."""
    return ast.parse((PACKAGE / "services" / name).read_text("utf-8"))


class StatusTests(SynchronousTestCase):
    """The statuses of the statement are those that the code names."""

    def expected(self, service: str) -> set[int]:
        # What a SOP class does not have, and what a mistake of ours, is
        # answered with.
        found = {status.UNRECOGNIZED_OPERATION, status.CANNOT_UNDERSTAND}
        if service == "C-ECHO":
            found = {status.UNRECOGNIZED_OPERATION, status.PROCESSING_FAILURE}
        for name in MODULES[service]:
            found |= namedIn(parsed(name))
        return found - NOT_ANSWERED.get(service, set())

    def test_named(self) -> None:
        """No more and no less."""
        for service, meanings in STATUSES.items():
            found = {one.status for one in meanings}
            self.assertEqual(found, self.expected(service), service)
            self.assertEqual(len(meanings), len(found))

    def test_onlyMove(self) -> None:
        """C001 is C-MOVE's alone, though both are in one module."""
        naming = [
            node.name
            for node in parsed("retrieve.py").body
            if isinstance(node, ast.ClassDef)
            and status.MOVE_DESTINATION_UNKNOWN in namedIn(node)
        ]
        self.assertEqual(naming, ["MoveService"])

"""Tests for L{d360.admin.openapi}: the description is that of what is there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.test.requesthelper import DummyRequest

from d360.admin.openapi import document
from d360.admin.resource import METHODS
from d360.logs import Logger
from d360.tap import Options, makeService
from tests.admin.test_site import SiteTestCase


def methodsOf(resource: Resource) -> set[str]:
    """What a resource serves."""
    return {name.lower() for name in METHODS if hasattr(resource, name.lower())}


def below(root: Resource, path: str) -> Resource:
    """The resource of a path, with an A for each parameter."""
    resource = root
    for part in re.sub(r"\{\w+\}", "A", path).strip("/").split("/"):
        resource = resource.getChildWithDefault(part.encode(), DummyRequest([]))
    return resource


class MountedTests(SynchronousTestCase):
    """All that the server mounts is described, and nothing else."""

    def setUp(self) -> None:
        self.patch(sys, "excepthook", sys.excepthook)
        self.patch(Logger, "threshold", Logger.threshold)
        options = Options()
        options.parseOptions([f"--data-directory={Path(self.mktemp()).absolute()}"])
        _, web = makeService(options)._parts.ports._listeners
        assert isinstance(web.factory, Site)
        self.root = web.factory.resource
        self.calls = self.root.children[b"api"].children
        self.document = document(name.decode() for name in self.calls)

    def test_all(self) -> None:
        """Each call has a description. Where there is none: d360.admin.calls."""
        paths = self.document["paths"]
        for name in self.calls:
            self.assertIn(f"/api/{name.decode()}", paths)

    def test_methods(self) -> None:
        """Those of each path, its parameters and what stands below it."""
        paths = self.document["paths"]
        for path, described in paths.items():
            if path == "/metrics":
                continue
            resource = below(self.root, path)
            names = re.findall(r"\{(\w+)\}", path)
            parameters = described.pop("parameters", [])
            self.assertEqual([p["name"] for p in parameters], names)
            self.assertEqual(set(described), methodsOf(resource), path)
            for name in resource.children:
                self.assertIn(f"{path}/{name.decode()}", paths)

    def test_served(self) -> None:
        """It is what C{GET /api/openapi.json} answers."""
        served = self.calls[b"openapi.json"]._document
        self.assertEqual(served, self.document)


class DocumentTests(SynchronousTestCase):
    """What any reader of OpenAPI relies on."""

    def setUp(self) -> None:
        self.document = document(["aes", "worklist", "status", "studies", "jobs"])

    def operations(self) -> Iterator[Any]:
        """Each method of each path."""
        for path in self.document["paths"].values():
            for name, operation in path.items():
                if name != "parameters":
                    yield operation

    def test_names(self) -> None:
        """C{operationId} is unique."""
        names = [operation["operationId"] for operation in self.operations()]
        self.assertEqual(len(names), len(set(names)))

    def test_references(self) -> None:
        """What is referred to is there."""
        text = json.dumps(self.document)
        for name in re.findall(r"#/components/schemas/(\w+)", text):
            self.assertIn(name, self.document["components"]["schemas"])

    def test_only(self) -> None:
        """What is not mounted is not described."""
        self.assertNotIn("/api/reindex", self.document["paths"])
        self.assertIn("/api/openapi.json", self.document["paths"])


class TokenTests(SiteTestCase):
    """Programs read it before they have a token."""

    token = "secret"

    def test_public(self) -> None:
        """The other calls need it."""
        answer = self.call("GET", "/api/openapi.json")
        self.assertEqual((answer.code, answer.json["openapi"]), (200, "3.1.0"))
        self.assertEqual(self.call("GET", "/api/status").code, 401)
        described, another = (
            answer.json["paths"][f"/api/{name}"]["get"]
            for name in ("openapi.json", "status")
        )
        self.assertEqual(described["security"], [])
        for status in ("401", "429"):
            self.assertNotIn(status, described["responses"])
            self.assertIn(status, another["responses"])

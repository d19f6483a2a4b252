"""Tests for L{d360.settings}."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from d360.config import load, options
from d360.settings import settingsInEffect, settingsWithSecrets


class SettingsTests(SynchronousTestCase):
    """Each key, as JSON."""

    def test_defaults(self) -> None:
        """What is not given has its default; secrets that are empty say so."""
        settings = settingsInEffect(load(None, {}))
        self.assertEqual(list(settings), list(options()))
        self.assertEqual(settings["dicom.ae_title"], "D360PACS")
        self.assertEqual(settings["dicom.max_pdu_length"], 65534)
        self.assertEqual(settings["dicom.duplicates"], "replace")
        self.assertIs(settings["dicom.accept_any_called_ae"], False)
        self.assertEqual(
            settings["dicom.default_permissions"],
            ["store", "query", "retrieve", "worklist"],
        )
        self.assertEqual(settings["data_directory"], str(Path.cwd() / "d360-data"))
        self.assertEqual(settings["web.token"], "")
        self.assertEqual(settings["web.monitoring_token"], "")
        self.assertEqual(settings["database.url"], "")
        json.dumps(settings)

    def test_given(self) -> None:
        """What is given is what shows, other than a secret."""
        settings = settingsInEffect(
            load(
                None,
                {
                    "dicom.ae_title": "PACS",
                    "dicom.duplicates": "keep",
                    "web.token": "long secret",
                    "web.monitoring_token": "another secret",
                    "database.url": "postgresql://d360:password@host/d360",
                },
            )
        )
        self.assertEqual(settings["dicom.ae_title"], "PACS")
        self.assertEqual(settings["dicom.duplicates"], "keep")
        self.assertEqual(settings["web.token"], "***")
        self.assertEqual(settings["web.monitoring_token"], "***")
        self.assertEqual(settings["database.url"], "***")
        text = json.dumps(settings)
        self.assertNotIn(" secret", text)
        self.assertNotIn("password", text)

    def test_another(self) -> None:
        """Another process makes the same configuration of it."""
        ours = load(
            None,
            {
                "data_directory": "here",
                "workers": 3,
                "dicom.default_permissions": ["query"],
                "dicom.duplicates": "keep",
                "web.token": "long secret",
                "database.url": "postgresql://d360:password@host/d360",
            },
        )
        settings = settingsWithSecrets(ours)
        self.assertEqual(load(None, json.loads(json.dumps(settings))), ours)
        self.assertEqual(settings["web.token"], "long secret")

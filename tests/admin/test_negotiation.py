"""Tests for L{d360.admin.negotiation}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from d360.admin.negotiation import choose

OFFERED = ("application/json", "application/dicom+json")


class ChooseTests(SynchronousTestCase):
    """RFC 9110 12.5.1."""

    def test_choose(self) -> None:
        """The best quality, then our preference."""
        json, model = OFFERED
        for accept, chosen in (
            (None, json),
            ("", json),
            ("*/*", json),
            ("application/*", json),
            ("application/json", json),
            (model, model),
            ("APPLICATION/DICOM+JSON", model),
            (f"{model}; transfer-syntax=*", model),
            (f"text/html, {model}", model),
            (f"{json};q=0.5, {model};q=0.9", model),
            (f"{json};q=0.9 , {model} ; q=0.9", json),
            (f"*/*;q=0.1, {model}", model),
            # The more specific one counts, also where it says less.
            (f"*/*, {json};q=0", model),
            (f"{json};q=0.1, application/*;q=0.5", model),
            (f"{json};q=x, {model};q=0.001", model),
            ("text/html", None),
            (f"{json};q=0", None),
            ("*/*;q=0", None),
            ("application", None),
            (",;,", None),
        ):
            self.assertEqual(choose(accept, OFFERED), chosen, accept)

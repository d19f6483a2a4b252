"""
The statement. Its sections are numbered as those of the statement of D360
Server 3.6 are, of which it is the successor.
"""

from __future__ import annotations

from collections.abc import Iterator

from d360.conformance.network import network
from d360.conformance.rst import bullets, document, heading, paragraph, title
from d360.conformance.services import (
    commitment,
    differences,
    get,
    move,
    query,
    storage,
    worklist,
)


def statement() -> str:
    """The whole statement, in reStructuredText."""
    return document(
        [
            ".. Written by python -m d360.conformance; do not edit.\n",
            title("DICOM Conformance Statement"),
            ".. contents::\n   :depth: 2\n",
            *_overview(),
            *network(),
            *worklist(),
            *storage(),
            *query(),
            *move(),
            *get(),
            *commitment(),
            *differences(),
        ]
    )


def _overview() -> Iterator[str]:
    yield heading(0, "1. Overview")
    yield paragraph("D360 is an archive server. Other systems use it to")
    yield bullets(
        [
            "store instances, which are kept byte for byte as they were received;",
            "query for patients, studies, series and instances, and retrieve them;",
            "query for a worklist of the procedures that are to be performed;",
            "have it confirmed that instances are kept, before they delete theirs.",
        ]
    )
    yield heading(0, "3. Introduction")
    yield paragraph(
        """This document is for those who connect D360 with other systems. It is
        written by the software itself from the tables that it works with. PS3.2 of
        the DICOM standard says how such documents are read; that two statements
        agree does not replace a test of the two products with each other."""
    )
    yield paragraph(
        """Abbreviations: AE, application entity; PDU, protocol data unit; SCU and
        SCP, service class user and provider; UID, unique identifier; VR, value
        representation."""
    )

"""
C-GET as requestors meet it: DCMTK's getscu, pynetdicom, and peers that
misbehave.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import _config, build_role, evt
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelGet as PatientRoot,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet as StudyRoot,
)

from tests.interop.receivers import (
    C_STORE,
    STUDY_GET,
    Requestor,
    RetrieveCase,
    Retrieved,
    keys,
    readRetrieved,
    received,
    respond,
)
from tests.interop.running import RunningServer
from tests.interop.scu import associated
from tests.interop.test_realfiles import RealFile, dataSetOf, storageFiles
from tests.interop.wire import (
    CT,
    ECHO,
    EXPLICIT,
    IMPLICIT,
    Response,
    echo,
    request,
    role,
)

MR = "1.2.840.10008.5.1.4.1.1.4"

#: What makes getscu prefer a transfer syntax. DCMTK 3.6.7 receives no deflated
#: data sets bit by bit, and asks for Explicit VR where it is told Implicit.
PREFER = {
    "1.2.840.10008.1.2.1": "+xe",
    "1.2.840.10008.1.2.2": "+xb",
    "1.2.840.10008.1.2.5": "+xr",
    "1.2.840.10008.1.2.4.50": "+xy",
    "1.2.840.10008.1.2.4.51": "+xx",
    "1.2.840.10008.1.2.4.70": "+xs",
    "1.2.840.10008.1.2.4.80": "+xt",
    "1.2.840.10008.1.2.4.81": "+xu",
    "1.2.840.10008.1.2.4.90": "+xv",
    "1.2.840.10008.1.2.4.91": "+xw",
}


@contextmanager
def getting(
    server: RunningServer,
    contexts: Iterable[tuple[str, str]],
    store: Callable[[Any], int],
    hasRole: bool = True,
) -> Iterator[Any]:
    """
    An association of pynetdicom's for C-GET.

    @param contexts: SOP classes of storage with a transfer syntax each.
    @param store: answers each C-STORE with a status.
    @param hasRole: whether it asks for the SCP role (PS3.7 D.3.3.4).
    """
    wanted = list(contexts)
    roles = {sopClass: build_role(sopClass, scp_role=True) for sopClass, _ in wanted}
    with associated(
        server,
        [(StudyRoot, IMPLICIT), (PatientRoot, IMPLICIT), *wanted],
        ext_neg=list(roles.values()) if hasRole else None,
        evt_handlers=[(evt.EVT_C_STORE, store)],
    ) as association:
        yield association


def retrieved(status: Dataset, identifier: Dataset | None) -> Retrieved:
    """A response as pynetdicom has it."""
    uids = identifier.get("FailedSOPInstanceUIDList") if identifier else None
    if isinstance(uids, str):
        uids = [uids]
    return Retrieved(
        status.Status,
        *(
            status.get(f"NumberOf{name}Suboperations")
            for name in ("Remaining", "Completed", "Failed", "Warning")
        ),
        tuple(uids or ()),
    )


class GetCase(RetrieveCase):
    """What tests of C-GET have in common."""

    def getscu(
        self, *given: str, model: str = "-S", total: int, options: Sequence[str] = ()
    ) -> tuple[Retrieved, dict[str, Path]]:
        """The final response that getscu got, and the files."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        arguments = ["-od", str(folder), "+B", *options]
        for key in given:
            arguments += ["-k", key]
        answer = self.client("getscu", model, *arguments)
        responses = readRetrieved(answer.output)
        self.assertTrue(responses, answer.output)
        self.check(responses, total)
        return responses[-1], received(folder)

    def get(
        self,
        identifier: Dataset,
        contexts: Iterable[tuple[str, str]],
        total: int,
        answer: Callable[[Any], int] = lambda event: 0,
        **options: Any,
    ) -> tuple[Retrieved, list[Any]]:
        """The final response that pynetdicom got, and the C-STORE-RQs."""
        got: list[Any] = []

        def store(event: Any) -> int:
            got.append(event)
            return answer(event)

        with getting(self.server, contexts, store, **options) as association:
            responses = [
                retrieved(*one)
                for one in association.send_c_get(identifier, StudyRoot, msg_id=7)
            ]
        self.check(responses, total)
        return responses[-1], got


class RequestorTests(GetCase):
    """getscu and pynetdicom (PS3.4 C.4.3; conformance 9)."""

    def test_levels(self) -> None:
        """All levels of both models, UID lists among the keys."""
        study, files = self.makeStudy(6)
        header = dcmread(next(iter(files.values())))
        patient, series = f"PatientID={study[-20:]}", header.SeriesInstanceUID
        for path in files.values():
            dataset = dcmread(path)
            dataset.PatientID = study[-20:]
            dataset.save_as(path)
        self.store(*files.values())
        two = sorted(files)[:2]
        s, e = f"StudyInstanceUID={study}", f"SeriesInstanceUID={series}"
        i = f"SOPInstanceUID={two[0]}"
        for model, level, given, expected in (
            ("-P", "PATIENT", [patient], set(files)),
            ("-P", "STUDY", [patient, s], set(files)),
            ("-P", "SERIES", [patient, s, e], set(files)),
            ("-P", "IMAGE", [patient, s, e, i], {two[0]}),
            ("-S", "STUDY", [s], set(files)),
            ("-S", "SERIES", [s, e], set(files)),
            ("-S", "IMAGE", [s, e, i], {two[0]}),
            ("-S", "IMAGE", ["SOPInstanceUID=" + "\\".join(two)], set(two)),
        ):
            final, got = self.getscu(
                f"QueryRetrieveLevel={level}",
                *given,
                model=model,
                total=len(expected),
            )
            self.assertEqual(final.status, 0x0000)
            self.assertEqual(final.counts, (None, len(expected), 0, 0))
            self.assertExact(got, {uid: files[uid] for uid in expected})

    def test_transferSyntaxes(self) -> None:
        """getscu gets what it prefers as it is stored."""
        found: dict[str, RealFile] = {}
        for file in storageFiles():
            if file.study and file.transferSyntax in PREFER:
                found.setdefault(file.transferSyntax, file)
        self.assertGreaterEqual(len(found), 9)
        for syntax, file in found.items():
            self.store(file.path)
            final, got = self.getscu(
                "QueryRetrieveLevel=IMAGE",
                f"SOPInstanceUID={file.instance}",
                total=1,
                options=[PREFER[syntax]],
            )
            self.assertEqual((final.status, final.counts), (0, (None, 1, 0, 0)), file)
            self.assertExact(got, {file.instance: file.path})

    def test_realFiles(self) -> None:
        """pynetdicom proposes every transfer syntax by itself."""
        self.patch(_config, "STORE_SEND_CHUNKED_DATASET", True)
        files = [file for file in storageFiles() if file.transferSyntax]
        contexts = sorted({(file.sopClass, file.transferSyntax) for file in files})
        stored = {}
        with associated(self.server, contexts) as association:
            for file in files:
                if association.send_c_store(file.path).Status == 0:
                    stored[file.instance] = file
        self.assertGreater(len(stored), 100)
        studies = sorted({file.study for file in stored.values()})
        final, got = self.get(
            keys("STUDY", StudyInstanceUID=studies), contexts, len(stored)
        )
        self.assertEqual(final.counts, (None, len(stored), 0, 0))
        self.assertEqual(len(got), len(stored))
        for event in got:
            file = stored[event.request.AffectedSOPInstanceUID]
            self.assertEqual(event.context.transfer_syntax, file.transferSyntax)
            self.assertEqual(event.request.DataSet.getvalue(), dataSetOf(file.path))
            self.assertIsNone(event.request.MoveOriginatorMessageID)

    def test_failures(self) -> None:
        """Statuses of the requestor, and files that are gone."""
        study, files = self.makeStudy(6)
        gone, *rest = files
        self.kept(gone).unlink()
        statuses = iter([0, 0xA700, 0xB000, 0xC001, 0])
        final, _ = self.get(
            keys("STUDY", StudyInstanceUID=study),
            [(CT, EXPLICIT)],
            6,
            lambda event: next(statuses),
        )
        self.assertEqual((final.status, final.counts), (0xB000, (None, 2, 3, 1)))
        self.assertEqual(final.failedUIDs, (gone, rest[1], rest[3]))
        self.server.linesOf(f"Cannot send {gone}: the file is gone", self.begin, 1)

    def test_contexts(self) -> None:
        """A class without a context, or without the role, has failed."""
        study, files = self.makeStudy(4)
        other = list(files)[2]
        dataset = dcmread(files[other])
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MR
        dataset.save_as(files[other])
        self.store(files[other])
        identifier = keys("STUDY", StudyInstanceUID=study)
        final, got = self.get(identifier, [(CT, EXPLICIT)], 4)
        self.assertEqual((final.status, final.counts), (0xB000, (None, 3, 1, 0)))
        self.assertEqual(final.failedUIDs, (other,))
        final, got = self.get(identifier, [], 4)
        self.assertEqual((final.status, final.counts), (0xA702, (None, 0, 4, 0)))
        self.assertEqual(set(final.failedUIDs), set(files))
        final, got = self.get(identifier, [(CT, EXPLICIT)], 4, hasRole=False)
        self.assertEqual((final.status, final.counts), (0xA702, (None, 0, 4, 0)))
        self.assertEqual(got, [])

    def test_refused(self) -> None:
        """Levels and keys that do not fit, and those that match nothing."""
        for identifier, expected in (
            (keys("PATIENT", PatientID="1"), 0xA900),
            (keys("STUDY"), 0xA900),
            (keys("IMAGE"), 0xA900),
            (keys("STUDY", SeriesInstanceUID="1.2"), 0xA900),
            (keys("STUDY", StudyInstanceUID="1.2.3.4.5.6"), 0x0000),
        ):
            final, got = self.get(identifier, [(CT, EXPLICIT)], 0)
            self.assertEqual((final.status, got), (expected, []))

    def test_cancel(self) -> None:
        """FE00 with what remains; the association goes on."""
        study, files = self.makeStudy(20)

        def answer(event: Any) -> int:
            if event.request.AffectedSOPInstanceUID == list(files)[2]:
                event.assoc.send_c_cancel(7, 1)
                # It stands in the line before the answer to this C-STORE.
            return 0

        final, got = self.get(
            keys("STUDY", StudyInstanceUID=study), [(CT, EXPLICIT)], 20, answer
        )
        self.assertEqual((final.status, final.counts), (0xFE00, (17, 3, 0, 0)))
        self.assertEqual(len(got), 3)
        final, _ = self.get(keys("STUDY", StudyInstanceUID=study), [(CT, EXPLICIT)], 20)
        self.assertEqual(final.status, 0)


class MisbehavingTests(GetCase):
    """Requestors that write each byte themselves."""

    def started(self, peer: Requestor, study: str, syntax: str = EXPLICIT) -> None:
        """A C-GET is asked for."""
        peer.send(
            request(
                [(STUDY_GET, [IMPLICIT]), (CT, [syntax]), (ECHO, [IMPLICIT])],
                user=role(CT, 1, 1),
            )
        )
        kind, _ = peer.receive()
        self.assertEqual(kind, 2)
        peer.ask(1, STUDY_GET, keys("STUDY", StudyInstanceUID=study))

    def answer(self, peer: Requestor, status: int | None = 0, **changed: int) -> None:
        """Read a C-STORE-RQ and answer it."""
        respond(peer, self.asked(peer), status, **changed)

    def asked(self, peer: Requestor) -> Response:
        """The next C-STORE-RQ; what is told of those before is read too."""
        while True:
            stored = peer.response()
            if stored.number(0x100) == C_STORE:
                return stored
            self.assertEqual(stored.status, 0xFF00)

    def test_goesAway(self) -> None:
        """In the middle of a data set, or between two: nothing stays open."""
        study, _ = self.makeStudy(10)
        before = self.openFiles()
        for isAborting in (True, False):
            for answers in (0, 2):
                with Requestor(self.server, isNarrow=True) as peer:
                    self.started(peer, study)
                    for _ in range(answers):
                        self.answer(peer)
                    if isAborting:
                        peer.send(b"\x07\x00\x00\x00\x00\x04\x00\x00\x00\x00")
        self.assertNoneLeft(before)
        self.assertNotIn("answered", self.logged().partition("C-GET")[2])

    def test_releases(self) -> None:
        """While a C-STORE waits for its answer: sub-operations stop."""
        study, _ = self.makeStudy(3)
        before = self.openFiles()
        with Requestor(self.server) as peer:
            self.started(peer, study)
            peer.response()
            peer.release()
        self.assertNoneLeft(before)

    def test_wrongResponses(self) -> None:
        """
        A response to another message, or one that announces a data set, ends
        the association.
        """
        study, _ = self.makeStudy(3)
        before = self.openFiles()
        for changed in ({"messageID": 99}, {"dataset": 1}):
            with Requestor(self.server) as peer:
                self.started(peer, study)
                self.answer(peer, **changed)
                kind, _ = peer.receive()
                self.assertEqual(kind, 7)
        self.assertNoneLeft(before)

    def test_twoResponses(self) -> None:
        """The second answers nothing."""
        study, _ = self.makeStudy(1)
        with Requestor(self.server) as peer:
            self.started(peer, study)
            stored = self.asked(peer)
            respond(peer, stored)
            self.assertEqual(peer.retrieved().status, 0)
            respond(peer, stored)
            kind, _ = peer.receive()
            self.assertEqual(kind, 7)

    def test_otherRequest(self) -> None:
        """A request in place of the response ends the association."""
        study, _ = self.makeStudy(3)
        with Requestor(self.server) as peer:
            self.started(peer, study)
            peer.response()
            peer.send(echo(5, 9))
            kind, _ = peer.receive()
            self.assertEqual(kind, 7)

    def test_noStatus(self) -> None:
        """A C-STORE-RSP without a Status is no success."""
        study, files = self.makeStudy(1)
        with Requestor(self.server) as peer:
            self.started(peer, study)
            self.answer(peer, None)
            final = peer.retrieved()
            self.assertEqual((final.status, final.failedUIDs), (0xA702, tuple(files)))
            peer.release()

    def test_piecemeal(self) -> None:
        """A requestor of small PDUs that reads slowly gets all of it."""
        study, files = self.makeStudy(4)
        with Requestor(self.server, isNarrow=True) as peer:
            peer.send(
                request(
                    [(STUDY_GET, [IMPLICIT]), (CT, [EXPLICIT])],
                    user=role(CT, 0, 1),
                    maximum=128,
                )
            )
            peer.receive()
            peer.ask(1, STUDY_GET, keys("STUDY", StudyInstanceUID=study))
            threading.Event().wait(0.3)
            for path in files.values():
                stored = self.asked(peer)
                self.assertEqual(stored.data, dataSetOf(path))
                respond(peer, stored)
            final = peer.toTheEnd()[-1]
            self.assertEqual((final.status, final.completed), (0, 4))
            peer.release()

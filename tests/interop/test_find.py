"""
C-FIND as DCMTK's findscu sees it (PS3.4 C.4.1, conformance 7.2.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.findset import (
    JAPANESE,
    NAMELESS,
    POLISH,
    ROOT,
    THORAX,
    TWIN,
    instances,
    many,
    send,
)
from tests.interop.findtables import (
    ALWAYS,
    CHARACTER_SET,
    KEYS,
    NAMED,
    RETURNED,
    TAGS,
)
from tests.interop.running import Responses, RunningServer, readResponses, sharedServer

_server: list[RunningServer] = []


def findServer() -> RunningServer:
    """A server that holds the set and nothing else."""
    if not _server:
        server = sharedServer("find")
        statuses = send(server, instances())
        if set(statuses) != {0}:
            raise RuntimeError(f"the set was not stored: {statuses}")
        _server.append(server)
    return _server[0]


class FindTestCase(SynchronousTestCase):
    """Asks the server that holds the set."""

    def setUp(self) -> None:
        self.server = findServer()

    def ask(
        self, level: str, *keys: str, model: str = "-S", options: Iterable[str] = ()
    ) -> Responses:
        """What findscu is answered; keys are sent in UTF-8."""
        arguments: list[Any] = ["-d", model, *options]
        keys = (f"QueryRetrieveLevel={level}", *keys)
        if not all(key.isascii() for key in keys):
            keys = ("SpecificCharacterSet=ISO_IR 192", *keys)
        for key in keys:
            arguments += ["-k", key.encode()]
        return readResponses(self.server.client("findscu", *arguments).output)

    def found(self, level: str, *keys: str, tag: str = "", model: str = "-S") -> Any:
        """The values of one element in all matches, sorted."""
        responses = self.ask(level, *keys, model=model)
        self.assertEqual(responses.statuses[-1], "0000", responses)
        return sorted(match[tag] for match in responses.matches)

    def studies(self, *keys: str) -> list[str]:
        """The last component of the UIDs of the set's studies that are found."""
        if not any(key.startswith("StudyInstanceUID") for key in keys):
            keys = (*keys, "StudyInstanceUID")
        uids = self.found("STUDY", *keys, tag="0020,000d")
        ends = [uid.removeprefix(f"{ROOT}.") for uid in uids]
        return [end for end in ends if end in "1234567"]


class AttributeTests(FindTestCase):
    """Conformance 7.2.2.1 and 7.2.2.2, attribute by attribute."""

    def models(self, level: str) -> tuple[str, ...]:
        """Patient Root, and Study Root where that has the level."""
        return ("-P",) if level == "PATIENT" else ("-P", "-S")

    def test_returned(self) -> None:
        """All return attributes of a level come with their values."""
        for level, values in RETURNED.items():
            unique = NAMED[level]
            given = {key.split("=")[0] for key in unique}
            asked = [keyword for keyword in values if keyword not in given]
            expected = {TAGS[keyword]: value for keyword, value in values.items()}
            expected |= {TAGS[k.split("=")[0]]: k.split("=")[1] for k in unique}
            for model in self.models(level):
                responses = self.ask(level, *asked, *unique, model=model)
                self.assertEqual(responses.statuses, ["FF00", "0000"], level)
                (match,) = responses.matches
                for tag in (*ALWAYS, CHARACTER_SET):
                    if tag in match:
                        del match[tag]
                self.assertEqual(match, expected)

    def test_onlyAsked(self) -> None:
        """What was not asked does not come (PS3.4 C.4.1.1.3.2)."""
        for level, values in RETURNED.items():
            unique = NAMED[level]
            given = {TAGS[key.split("=")[0]] for key in unique}
            for keyword in values:
                keys = [k for k in unique if not k.startswith(f"{keyword}=")]
                if len(keys) < len(unique):
                    continue
                (match,) = self.ask(level, keyword, *keys, model="-P").matches
                self.assertEqual(
                    set(match) - {CHARACTER_SET}, ALWAYS | given | {TAGS[keyword]}
                )

    def test_keys(self) -> None:
        """Each key finds the entity with the right value, and not with another."""
        for level, keys in KEYS.items():
            keyword, named = NAMED[level][-1].split("=")
            study = [f"StudyInstanceUID={THORAX}"] * (level in ("SERIES", "IMAGE"))
            for key, values in keys.items():
                for value, isRight in zip(values, (True, False), strict=True):
                    others = [k for k in study if not k.startswith(f"{key}=")]
                    if key != keyword:
                        others.append(keyword)
                    for model in self.models(level):
                        asked = (f"{key}={value}", *others)
                        responses = self.ask(level, *asked, model=model)
                        self.assertNotIn("FF01", responses.statuses, asked)
                        self.assertEqual(responses.statuses[-1], "0000", asked)
                        found = [match[TAGS[keyword]] for match in responses.matches]
                        self.assertEqual(named in found, isRight, (asked, found))

    def test_always(self) -> None:
        """Level, Retrieve AE Title and availability (PS3.4 C.4.1.1.3.2)."""
        for level, unique in NAMED.items():
            (match,) = self.ask(level, *unique, model="-P").matches
            self.assertEqual(match["0008,0052"], level)
            self.assertEqual(match["0008,0054"], "D360PACS")
            self.assertEqual(match["0008,0056"], "ONLINE")

    def test_unsupported(self) -> None:
        """A key that is not supported comes back empty, with FF01 (C.4.1.1.4)."""
        responses = self.ask("STUDY", "PatientID=F1", "PatientWeight=80")
        self.assertEqual(responses.statuses, ["FF01", "FF01", "0000"])
        for match in responses.matches:
            self.assertEqual(match["0010,1030"], "")

    def test_lowerLevel(self) -> None:
        """So does a key of a lower level."""
        responses = self.ask("STUDY", "PatientID=F1", "SeriesNumber=17")
        self.assertEqual(responses.statuses, ["FF01", "FF01", "0000"])
        self.assertEqual({m["0020,0011"] for m in responses.matches}, {""})


class MatchingTests(FindTestCase):
    """PS3.4 C.2.2.2, kind by kind."""

    def test_universal(self) -> None:
        """An empty key and C{*} match everything (C.2.2.2.3)."""
        everything = ["1", "2", "3", "4", "5", "6", "7"]
        for key in ("PatientID", "PatientID=*", "StudyDescription=*", "PatientName=**"):
            self.assertEqual(self.studies(key), everything, key)
        uids = self.found("SERIES", f"StudyInstanceUID={THORAX}", tag="0020,000d")
        self.assertEqual(uids, [THORAX] * 2)

    def test_onePerEntity(self) -> None:
        """One answer for each entity of the level, not for each instance."""
        study = f"StudyInstanceUID={THORAX}"
        self.assertEqual(len(self.ask("STUDY", study).matches), 1)
        self.assertEqual(len(self.ask("SERIES", study).matches), 2)
        self.assertEqual(len(self.ask("IMAGE", study).matches), 3)

    def test_wildcards(self) -> None:
        """C{*} and C{?}; what SQL takes for wild cards is literal (C.2.2.2.4)."""
        self.assertEqual(self.studies("AccessionNumber=A?C*"), ["1"])
        self.assertEqual(self.studies("StudyDescription=*100%*"), ["2"])
        self.assertEqual(self.studies("StudyDescription=*1%0*"), [])
        self.assertEqual(self.studies("StudyDescription=*%_*"), ["2"])
        self.assertEqual(self.studies("StudyDescription=Head?100*"), ["2"])

    def test_noWildcards(self) -> None:
        """A UID and a date never expand them."""
        self.assertEqual(self.studies(f"StudyInstanceUID={ROOT}.*"), [])
        self.assertEqual(self.studies("StudyDate=2024*"), [])

    def test_ranges(self) -> None:
        """Both ends, one end, and a single value (C.2.2.2.5)."""
        only = "PatientID=F?"
        for value, expected in (
            ("20240110-20240220", ["1", "2", "7"]),
            ("-20240110", ["1", "3", "7"]),
            ("20240220-", ["2", "4"]),
            ("20240220", ["2"]),
            ("2024.02.20", ["2"]),
            ("20240221-20240219", []),
        ):
            self.assertEqual(self.studies(only, f"StudyDate={value}"), expected, value)

    def test_times(self) -> None:
        """A time with less precision stands for its whole period (PS3.5 6.2)."""
        only = "PatientID=F?"
        for value, expected in (
            ("10", ["1", "4"]),
            ("1015", ["1"]),
            ("101530.25", ["1"]),
            ("10-1059", ["1", "4"]),
            ("2359-", ["3"]),
            ("-0930", ["2"]),
        ):
            self.assertEqual(self.studies(only, f"StudyTime={value}"), expected, value)

    def test_uidList(self) -> None:
        """Several UIDs are any of them (C.2.2.2.2)."""
        self.assertEqual(
            self.studies(f"StudyInstanceUID={THORAX}\\{POLISH}\\1.2.3"), ["1", "4"]
        )

    def test_modalities(self) -> None:
        """Modalities in Study matches any that the study has (PS3.3 C.3.4)."""
        self.assertEqual(self.studies("ModalitiesInStudy=CT"), ["1"])
        self.assertEqual(self.studies("ModalitiesInStudy=PR"), ["1"])
        self.assertEqual(self.studies("ModalitiesInStudy=MR\\CR"), ["2", "3", "4"])
        self.assertEqual(self.studies("ModalitiesInStudy=XA"), [])

    def test_names(self) -> None:
        """Case and accents do not matter, nor does a trailing C{^}."""
        for key in ("müller^jürgen", "Muller^Jurgen", "MULLER*", "MÜLLER^JURGEN^^"):
            self.assertEqual(self.studies(f"PatientName={key}"), ["1", "2", "7"], key)
        self.assertEqual(self.studies("PatientName=lukasiewicz^*"), ["4"])
        self.assertEqual(self.studies("PatientName=Muller"), [])

    def test_nameGroups(self) -> None:
        """Each component group of a name is searched (PS3.5 6.2.1)."""
        for key in ("Yamada^Tarou", "山田^太郎", "山田*", "やまだ*", "=山田^太郎="):
            self.assertEqual(self.studies(f"PatientName={key}"), ["3"], key)
        self.assertEqual(self.studies("PatientName=山田^太郎="), [])

    def test_emptyPatientID(self) -> None:
        """Studies of patients without an ID are found apart."""
        self.assertEqual(self.studies("PatientName=Nobody*"), ["5", "6"])
        self.assertEqual(self.studies("PatientName=Nobody^One"), ["5"])
        counts = self.found(
            "PATIENT",
            "PatientName=Nobody^Two",
            "NumberOfPatientRelatedStudies",
            tag="0020,1200",
            model="-P",
        )
        self.assertEqual(counts, ["1"])
        study = self.ask("STUDY", f"StudyInstanceUID={TWIN}", "PatientID")
        self.assertEqual([m["0010,0020"] for m in study.matches], [""])
        self.assertEqual(
            self.found("STUDY", f"StudyInstanceUID={NAMELESS}", tag="0020,000d"),
            [NAMELESS],
        )


class RefusalTests(FindTestCase):
    """Identifiers that cannot be answered (PS3.4 C.4.1.1.4)."""

    def refused(self, level: str, *keys: str, model: str = "-S") -> dict[str, str]:
        """The status detail of an A900."""
        responses = self.ask(level, *keys, model=model)
        self.assertEqual(responses.statuses, ["A900"])
        return responses.detail

    def test_required(self) -> None:
        """Conformance 7.2.2.1: the study must be named below its level."""
        for level in ("SERIES", "IMAGE"):
            for model in ("-S", "-P"):
                for keys in (("PatientID=F1",), ("StudyInstanceUID",)):
                    detail = self.refused(level, *keys, model=model)
                    self.assertEqual(detail["0000,0901"], "0020,000d")

    def test_level(self) -> None:
        """A level that is missing, unknown, or not in the model."""
        for level in ("", "PATIENT", "FRAME", "study"):
            detail = self.refused(level, "PatientID=F1")
            self.assertEqual(detail["0000,0901"], "0008,0052")
        self.refused("SERIE", "PatientID=F1", model="-P")


class CharacterSetTests(FindTestCase):
    """Specific Character Set (0008,0005) both ways (PS3.5 6.1, conformance 4.5)."""

    def test_answer(self) -> None:
        """ISO_IR 100 where that holds the text, else ISO_IR 192."""
        for study, characterSet, name in (
            (THORAX, "ISO_IR 100", "Müller^Jürgen"),
            (JAPANESE, "ISO_IR 192", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
            (POLISH, "ISO_IR 192", "Łukasiewicz^Żaneta"),
        ):
            (match,) = self.ask(
                "STUDY", f"StudyInstanceUID={study}", "PatientName"
            ).matches
            self.assertEqual(match[CHARACTER_SET], characterSet)
            self.assertEqual(match["0010,0010"], name)

    def test_question(self) -> None:
        """The keys are in the character set that the identifier names."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for characterSet, name, expected in (
            ("ISO_IR 100", "Müller*", ["1", "2", "7"]),
            ("ISO_IR 192", "Łukas*", ["4"]),
            ("ISO_IR 101", "Łukas*", ["4"]),
            (["", "ISO 2022 IR 87"], "*=山田*", ["3"]),
        ):
            query = Dataset()
            query.SpecificCharacterSet = characterSet
            query.QueryRetrieveLevel = "STUDY"
            query.PatientName = name
            query.StudyInstanceUID = ""
            query.save_as(folder / "query.dcm", implicit_vr=False, little_endian=True)
            output = self.server.client(
                "findscu", "-d", "-S", str(folder / "query.dcm")
            ).output
            uids = [m["0020,000d"] for m in readResponses(output).matches]
            found = sorted(uid.removeprefix(f"{ROOT}.") for uid in uids)
            self.assertEqual(found, expected, characterSet)


class TransferSyntaxTests(FindTestCase):
    """Conformance 7.2: three transfer syntaxes, one answer."""

    def test_all(self) -> None:
        """Little and big endian, implicit and explicit VR."""
        for option, name in (
            ("-xi", "LittleEndianImplicit"),
            ("-xe", "LittleEndianExplicit"),
            ("-xb", "BigEndianExplicit"),
        ):
            arguments = ["-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=*jurgen*"]
            arguments += ["-k", "StudyDate=20240110", "-k", "StudyID=ST1"]
            arguments += ["-k", "NumberOfStudyRelatedInstances", "-k", "PatientWeight"]
            output = self.server.client(
                "findscu", "-d", "-S", option, *arguments
            ).output
            self.assertIn(f"Accepted Transfer Syntax: ={name}", output)
            responses = readResponses(output)
            self.assertEqual(responses.statuses, ["FF01", "0000"])
            self.assertEqual(
                responses.matches,
                [
                    {
                        "0008,0005": "ISO_IR 100",
                        "0008,0020": "20240110",
                        "0008,0052": "STUDY",
                        "0008,0054": "D360PACS",
                        "0008,0056": "ONLINE",
                        "0010,0010": "Müller^Jürgen",
                        "0010,1030": "",
                        "0020,0010": "ST1",
                        "0020,1208": "3",
                    }
                ],
            )

    def test_readable(self) -> None:
        """An answer is a data set that another library reads."""
        folder = Path(self.mktemp())
        folder.mkdir()
        keys = ["QueryRetrieveLevel=STUDY", "PatientID=F2", "PatientName"]
        arguments = ["-S", "-X", "-od", str(folder)]
        for key in keys:
            arguments += ["-k", key]
        self.server.client("findscu", *arguments)
        (path,) = folder.iterdir()
        dataset = dcmread(path)
        self.assertEqual(dataset.PatientName.ideographic, "山田^太郎")


class CountTests(FindTestCase):
    """Related counts and modalities are right after every store (PS3.3 C.3)."""

    def test_counts(self) -> None:
        """They follow at once."""
        study = f"{ROOT}.9"
        for step, (series, modality, expected) in enumerate(
            (
                (1, "CT", ("1", "1", "CT")),
                (1, "CT", ("1", "2", "CT")),
                (2, "PR", ("2", "3", "CT\\PR")),
                (3, "CT", ("3", "4", "CT\\PR")),
            ),
            1,
        ):
            (dataset,) = many("COUNTS", 1, 1)
            dataset.StudyInstanceUID = study
            dataset.SeriesInstanceUID = f"{study}.{series}"
            dataset.SOPInstanceUID = f"{study}.{series}.{step}"
            dataset.Modality = modality
            self.assertEqual(send(self.server, [dataset]), [0])
            (match,) = self.ask(
                "STUDY",
                "PatientID=COUNTS",
                "NumberOfStudyRelatedSeries",
                "NumberOfStudyRelatedInstances",
                "ModalitiesInStudy",
            ).matches
            self.assertEqual(
                (match["0020,1206"], match["0020,1208"], match["0008,0061"]), expected
            )
            (match,) = self.ask(
                "SERIES",
                f"StudyInstanceUID={study}",
                f"SeriesInstanceUID={study}.{series}",
                "NumberOfSeriesRelatedInstances",
            ).matches
            self.assertEqual(match["0020,1209"], "2" if step == 2 else "1")
            (match,) = self.ask(
                "PATIENT",
                "PatientID=COUNTS",
                "NumberOfPatientRelatedInstances",
                model="-P",
            ).matches
            self.assertEqual(match["0020,1204"], str(step))

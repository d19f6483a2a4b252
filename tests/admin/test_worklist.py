"""Tests for L{d360.admin.worklist}: through a real Site, without a socket."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from twisted.internet.defer import Deferred

from d360.admin.site import MAX_BODY, makeSite
from d360.admin.worklist import WorklistResource
from d360.services.worklistitems import WorklistForms
from tests.admin.test_site import Answer, SiteTestCase, readAnswer
from tests.contracts.memoryworklist import MemoryWorklist

STEP = {
    "Modality": "CT",
    "ScheduledStationAETitle": "CT01",
    "ScheduledProcedureStepStartDate": "20260101",
    "ScheduledProcedureStepStartTime": "0900",
    "ScheduledProcedureStepID": "S1",
}

ITEM = {
    "PatientName": "Rossi^Anna",
    "PatientID": "1",
    "StudyInstanceUID": "1.2.3",
    "RequestedProcedureID": "P1",
    "ScheduledProcedureStepSequence": [STEP],
}

MODEL = {
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Rossi^Anna"}]},
    "00100020": {"vr": "LO", "Value": ["1"]},
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    "00400100": {
        "vr": "SQ",
        "Value": [
            {
                "00080060": {"vr": "CS", "Value": ["CT"]},
                "00400001": {"vr": "AE", "Value": ["CT01"]},
                "00400002": {"vr": "DA", "Value": ["20260101"]},
                "00400003": {"vr": "TM", "Value": ["0900"]},
                "00400009": {"vr": "SH", "Value": ["S1"]},
            }
        ],
    },
    "00401001": {"vr": "SH", "Value": ["P1"]},
}

DICOM_JSON = "application/dicom+json"


def encoded(**changes: Any) -> bytes:
    """The body of an item."""
    return json.dumps(ITEM | changes).encode()


class WorklistTestCase(SiteTestCase):
    """A site with an empty worklist."""

    def setUp(self) -> None:
        super().setUp()
        self.worklist = MemoryWorklist()
        resource = WorklistResource(self.worklist, WorklistForms())
        self.site = makeSite({b"worklist": resource}, self.token)
        self.site.timeOut = None

    def post(self, kind: str = "application/json", **changes: Any) -> str:
        """Add an item; its identifier."""
        answer = self.call("POST", "/api/worklist", encoded(**changes), kind)
        self.assertEqual(answer.code, 201, answer.body)
        self.assertEqual(list(answer.json), ["id"])
        return str(answer.json["id"])

    def fill(self, count: int) -> list[str]:
        """Add items, a day apart."""
        return [
            self.post(
                StudyInstanceUID=f"1.2.{n}",
                PatientID=str(n),
                ScheduledProcedureStepSequence=[
                    {**STEP, "ScheduledProcedureStepStartDate": f"202601{n:02}"}
                ],
            )
            for n in range(1, count + 1)
        ]

    def kept(self) -> list[Any]:
        """All items."""
        listed: list[Any] = self.call("GET", "/api/worklist").json["items"]
        return listed


class AddTests(WorklistTestCase):
    """C{POST /api/worklist}."""

    def test_add(self) -> None:
        """201 with where it is; then it is there."""
        answer = self.call("POST", "/api/worklist", encoded())
        self.assertEqual(answer.code, 201)
        identifier = answer.json["id"]
        self.assertEqual(answer.headers["location"], f"/api/worklist/{identifier}")
        self.assertEqual(answer.headers["etag"], '"1"')
        one = self.call("GET", f"/api/worklist/{identifier}")
        self.assertEqual(one.json, {"id": identifier, "version": 1, **ITEM})
        self.assertEqual(self.kept(), [one.json])

    def test_curl(self) -> None:
        """As C{curl -d} sends it."""
        self.post("application/x-www-form-urlencoded")
        self.post("", StudyInstanceUID="1.2.4")
        self.assertEqual(len(self.kept()), 2)

    def test_model(self) -> None:
        """The DICOM JSON Model, as one data set or a list of one."""
        for number, wrap in enumerate((lambda x: x, lambda x: [x])):
            uid = {"vr": "UI", "Value": [f"1.2.{number + 1}"]}
            body = json.dumps(wrap(MODEL | {"0020000D": uid})).encode()
            answer = self.call("POST", "/api/worklist", body, DICOM_JSON)
            self.assertEqual(answer.code, 201, answer.body)
        self.assertEqual(self.kept()[0]["PatientName"], "Rossi^Anna")
        bad = json.dumps(MODEL | {"00080005": 1, "00100020": 1}).encode()
        error = self.refused(400, "POST", "/api/worklist", bad, DICOM_JSON)
        self.assertIn("PatientID", error)
        for body in (b"[]", b"[{}, {}]", b"1"):
            error = self.refused(400, "POST", "/api/worklist", body, DICOM_JSON)
            self.assertIn("one data set", error)

    def test_file(self) -> None:
        """A DICOM file, for example a C{.wl} one."""
        dataset = Dataset.from_json(MODEL)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
        dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        data, kind = file.getvalue(), "application/dicom"
        answer = self.call("POST", "/api/worklist", data, kind)
        self.assertEqual(answer.code, 201, answer.body)
        (item,) = self.kept()
        self.assertEqual(item, {"id": answer.json["id"], "version": 1, **ITEM})
        for bad in (b"x", data[:140]):
            error = self.refused(400, "POST", "/api/worklist", bad, kind)
            self.assertIn("file: ", error)

    def test_bad(self) -> None:
        """400 with the keyword and the reason; nothing is kept."""
        for body, words in (
            (b"{", "not valid JSON"),
            (b"", "send a worklist item"),
            (b"[]", "a JSON object"),
            (encoded(PatientColour="red"), "PatientColour"),
            (encoded()[:-1] + b', "PatientID": "2"}', "PatientID is there twice"),
            (encoded(id="1"), "id: leave it out"),
            (encoded(version=1), "version: leave it out"),
        ):
            self.assertIn(words, self.refused(400, "POST", "/api/worklist", body))
        self.assertEqual(self.kept(), [])

    def test_otherTypes(self) -> None:
        """415 for what is in no form of ours."""
        for kind in ("text/plain", "application/xml", "multipart/form-data"):
            error = self.refused(415, "POST", "/api/worklist", encoded(), kind)
            self.assertIn("application/dicom+json", error)

    def test_tooLong(self) -> None:
        """413."""
        body = encoded(PatientComments="x" * MAX_BODY)
        self.refused(413, "POST", "/api/worklist", body)
        self.assertEqual(self.kept(), [])

    def test_conflict(self) -> None:
        """409 for a Study Instance UID that is there."""
        self.post()
        error = self.refused(409, "POST", "/api/worklist", encoded())
        self.assertIn("Study Instance UID", error)

    def test_html(self) -> None:
        """It is text, and JSON."""
        name = "<script>alert(1)</script>"
        identifier = self.post(PatientName=name)
        answer = self.call("GET", f"/api/worklist/{identifier}")
        self.assertEqual(answer.json["PatientName"], name)
        self.assertEqual(answer.headers["content-type"], "application/json")


class ListTests(WorklistTestCase):
    """C{GET /api/worklist}."""

    def test_pages(self) -> None:
        """C{limit} at a time, C{next} leads on, and so does the header."""
        ids = self.fill(5)
        found = []
        path = "/api/worklist?limit=2"
        while path:
            answer = self.call("GET", path)
            page = answer.json
            found += [item["id"] for item in page["items"]]
            self.assertEqual("link" in answer.headers, page["next"] is not None)
            path = page["next"] and f"/api/worklist?limit=2&after={page['next']}"
            if path:
                link = f'</api/worklist?limit=2&after={page["next"]}>; rel="next"'
                self.assertEqual(answer.headers["link"], link)
        self.assertEqual(found, ids)
        page = self.call("GET", "/api/worklist?limit=5").json
        self.assertEqual((len(page["items"]), page["next"]), (5, None))

    def test_link(self) -> None:
        """It carries the filters on."""
        self.fill(2)
        answer = self.call("GET", "/api/worklist?PatientName=ros%2A&limit=1")
        self.assertIn("?patientname=ros%2a&limit=1&after=", answer.headers["link"])

    def test_filters(self) -> None:
        """By keyword, as in a C-FIND."""
        self.fill(3)
        for query, patients in (
            ("PatientID=2", ["2"]),
            ("PatientName=ros*", ["1", "2", "3"]),
            ("PatientName=Rossi%5EAnna", ["1", "2", "3"]),
            ("ScheduledProcedureStepStartDate=20260102-20260103", ["2", "3"]),
            ("ScheduledProcedureStepStartDate=20260102-&PatientID=3", ["3"]),
            ("ScheduledStationAETitle=CT01&Modality=MR", []),
            ("PatientID=", ["1", "2", "3"]),
        ):
            items = self.call("GET", f"/api/worklist?{query}").json["items"]
            self.assertEqual([item["PatientID"] for item in items], patients, query)

    def test_badFilters(self) -> None:
        """400, naming it."""
        for query, words in (
            ("PatientColour=red", "PatientColour"),
            ("PatientID=1&PatientID=2", "PatientID is given twice"),
            ("limit=0", "limit: give"),
            ("limit=1001", "limit: give"),
            ("limit=x", "limit: give"),
            ("limit=", "limit: give"),
            ("limit=%D9%A1", "limit: give"),
            ("after=..%2F", "after: give"),
            ("PatientID=%FF", "UTF-8"),
            (
                "ScheduledProcedureStepStartDate=2026-01-01",
                "ScheduledProcedureStepStartDate: ",
            ),
            ("&".join(f"a{n}=1" for n in range(200)), "at most 100"),
        ):
            error = self.refused(400, "GET", f"/api/worklist?{query}")
            self.assertIn(words, error)

    def test_afterGone(self) -> None:
        """409 where the item to go on behind was removed meanwhile."""
        ids = self.fill(2)
        self.call("DELETE", f"/api/worklist/{ids[0]}")
        error = self.refused(409, "GET", f"/api/worklist?after={ids[0]}")
        self.assertIn("gone", error)

    def test_model(self) -> None:
        """A list of data sets (PS3.18 F.2)."""
        self.fill(2)
        answer = self.call("GET", "/api/worklist?limit=1", Accept=DICOM_JSON)
        self.assertEqual(answer.headers["content-type"], DICOM_JSON)
        self.assertEqual(answer.headers["vary"], "accept")
        self.assertEqual([one["00100020"]["Value"] for one in answer.json], [["1"]])
        self.assertIn("link", answer.headers)

    def test_acceptOfAnyBytes(self) -> None:
        """A header that is no UTF-8 names no form; the others in it count."""
        for accept, code in ((b"a\xc7=u", 406), (b"\xff/\xff, */*", 200)):
            transport = self.connect(
                b"GET /api/worklist HTTP/1.0\r\nHost: localhost\r\n"
                b"Accept: " + accept + b"\r\n\r\n"
            )
            self.assertEqual(code, readAnswer(transport.value()).code)

    def test_accept(self) -> None:
        """406 for another form."""
        error = self.refused(406, "GET", "/api/worklist", Accept="text/html")
        self.assertIn("application/dicom+json", error)
        for accept in ("*/*", "text/html, application/*;q=0.1"):
            answer = self.call("GET", "/api/worklist", Accept=accept)
            self.assertEqual(answer.headers["content-type"], "application/json")


class ItemTests(WorklistTestCase):
    """C{/api/worklist/ID}."""

    def setUp(self) -> None:
        super().setUp()
        self.identifier = self.post()
        self.path = f"/api/worklist/{self.identifier}"

    def put(self, headers: dict[str, str] | None = None, **changes: Any) -> Answer:
        """Replace the item."""
        return self.call("PUT", self.path, encoded(**changes), **headers or {})

    def test_unknown(self) -> None:
        """404, also for what can be no identifier."""
        for name in (
            "0" * 32, "..", ".", "", "%2e%2e", "..%2f..%2fetc%2fpasswd", "a%2Fb", "%00",
            "%C3%A9", "%ff", "a" * 1000,
        ):  # fmt: skip
            path = f"/api/worklist/{name}"
            self.refused(404, "GET", path)
            self.refused(404, "PUT", path, encoded())
            self.refused(404, "DELETE", path)
        self.assertIn("no such call", self.refused(404, "GET", f"{self.path}/x"))
        self.assertEqual(len(self.kept()), 1)

    def test_put(self) -> None:
        """The whole item, as it is now, of the next version."""
        answer = self.put(PatientID="2")
        self.assertEqual(answer.code, 200)
        self.assertEqual(answer.headers["etag"], '"2"')
        self.assertEqual(answer.headers["content-location"], self.path)
        now = {"id": self.identifier, "version": 2, **ITEM, "PatientID": "2"}
        self.assertEqual(answer.json, now)
        self.assertEqual(self.kept(), [now])

    def test_putShort(self) -> None:
        """What was made for it, or given once, stays where it is left out."""
        short = {key: ITEM[key] for key in ("PatientName", "PatientID")}
        step = {**STEP, "Modality": "MR"}
        del step["ScheduledProcedureStepID"]
        body = json.dumps({**short, "ScheduledProcedureStepSequence": [step]})
        answer = self.call("PUT", self.path, body.encode())
        self.assertEqual(answer.code, 200, answer.body)
        self.assertEqual(answer.json["StudyInstanceUID"], "1.2.3")
        (now,) = answer.json["ScheduledProcedureStepSequence"]
        self.assertEqual(now, {**STEP, "Modality": "MR"})

    def test_putBad(self) -> None:
        """Then it stays as it was."""
        before = self.kept()
        for changes, words in (
            ({"PatientColour": "red"}, "PatientColour"),
            ({"id": "other"}, "id: it is another"),
            ({"version": "1"}, "version: give"),
            ({"version": True}, "version: give"),
        ):
            error = self.refused(400, "PUT", self.path, encoded(**changes))
            self.assertIn(words, error)
        self.refused(415, "PUT", self.path, encoded(), "text/plain")
        self.refused(406, "PUT", self.path, encoded(), Accept="text/html")
        self.assertEqual(self.kept(), before)

    def test_putBack(self) -> None:
        """What GET gave may be put back; its version is looked at."""
        item = self.call("GET", self.path).json
        self.assertEqual(self.put(**item).code, 200)
        answer = self.put(**item)
        self.assertEqual(answer.code, 409)
        self.assertIn("version 2", answer.json["error"])

    def test_ifMatch(self) -> None:
        """412 when another writer was faster."""
        for tag in ('"1"', '"x", "1"', "*", '"1-dicom"'):
            before = self.call("GET", self.path).headers["etag"]
            tag = tag.replace("1", before.strip('"'))
            self.assertEqual(self.put({"If-Match": tag}).code, 200, tag)
        for tag in ('"1"', 'W/"5"', "5", "", '"1", "2"'):
            self.assertEqual(self.put({"If-Match": tag}).code, 412, tag)
            self.refused(412, "DELETE", self.path, **{"If-Match": tag})
        self.assertEqual(self.kept()[0]["version"], 5)
        answer = self.call("DELETE", self.path, **{"If-Match": '"5"'})
        self.assertEqual((answer.code, answer.body), (204, b""))
        self.refused(404, "DELETE", self.path, **{"If-Match": '"5"'})

    def test_race(self) -> None:
        """
        Of two writers that come at the same time the second one is refused,
        if it says what it expects.
        """
        for headers, path, code in (
            ({"If-Match": '"1"'}, self.path, 412),
            ({}, self.path, 409),
        ):
            body = (
                {"id": self.identifier}
                if headers
                else {"id": self.identifier, "version": 2}
            )
            first, second = Deferred(), Deferred()
            answers = [first, second]
            self.worklist.get = lambda identifier, answers=answers: answers.pop(0)
            item = self.successResultOf(
                MemoryWorklist.get(self.worklist, self.identifier)
            )
            data = json.dumps(ITEM | body).encode()
            lines = [
                f"PUT {path} HTTP/1.1",
                "Host: localhost",
                "Connection: close",
                f"Content-Length: {len(data)}",
                *(f"{name}: {value}" for name, value in headers.items()),
            ]
            transport = self.connect("\r\n".join([*lines, "", ""]).encode() + data)
            replaced = self.worklist.replace(self.identifier, item.attributes)
            now = self.successResultOf(replaced)
            first.callback(item)
            second.callback(now)
            del self.worklist.get
            self.assertIn(f"HTTP/1.1 {code} ".encode(), transport.value())
            self.assertEqual(self.kept()[0]["version"], now.version)

    def test_ifNoneMatch(self) -> None:
        """304 when it has not changed; the two forms have tags of their own."""
        for accept, tag in (("*/*", '"1"'), (DICOM_JSON, '"1-dicom"')):
            whole = self.call("GET", self.path, Accept=accept)
            self.assertEqual(whole.headers["etag"], tag)
            for known in (tag, f"W/{tag}", f'"0", {tag}', "*"):
                headers = {"Accept": accept, "If-None-Match": known}
                answer = self.call("GET", self.path, **headers)
                self.assertEqual((answer.code, answer.body), (304, b""))
                self.assertEqual(answer.headers["etag"], tag)
        for known in ('"2"', '"1-dicom"', "1", ""):
            answer = self.call("GET", self.path, **{"If-None-Match": known})
            self.assertEqual(answer.code, 200)
        self.assertEqual(self.put({"If-None-Match": "*"}).code, 412)

    def test_model(self) -> None:
        """Both ways."""
        answer = self.call("GET", self.path, Accept=DICOM_JSON)
        self.assertEqual(answer.headers["content-type"], DICOM_JSON)
        self.assertEqual(answer.json, MODEL)
        body = json.dumps(answer.json).encode()
        answer = self.call("PUT", self.path, body, DICOM_JSON, Accept=DICOM_JSON)
        self.assertEqual((answer.code, answer.json), (200, MODEL))
        self.assertEqual(answer.headers["etag"], '"2-dicom"')

    def test_conflict(self) -> None:
        """409 for the Study Instance UID of another."""
        self.post(StudyInstanceUID="1.2.4")
        for headers in ({}, {"If-Match": '"1"'}):
            answer = self.put(headers, StudyInstanceUID="1.2.4")
            self.assertEqual(answer.code, 409)
            self.assertIn("Study Instance UID", answer.json["error"])

    def test_delete(self) -> None:
        """204, then 404."""
        self.assertEqual(self.call("DELETE", self.path).code, 204)
        self.refused(404, "DELETE", self.path)
        self.refused(404, "GET", self.path)
        self.assertEqual(self.kept(), [])

    def test_methods(self) -> None:
        """405 with what there is."""
        answer = self.call("POST", self.path, encoded())
        self.assertEqual(answer.headers["allow"].lower(), "delete, get, head, put")
        answer = self.call("DELETE", "/api/worklist")
        self.assertEqual(answer.headers["allow"].lower(), "get, head, post")

    def test_databaseAway(self) -> None:
        """503 for each of them."""
        self.worklist.away = True
        for arguments in (
            ("GET", "/api/worklist"),
            ("POST", "/api/worklist", encoded()),
            ("GET", self.path),
            ("PUT", self.path, encoded()),
            ("DELETE", self.path),
        ):
            self.assertIn("database", self.refused(503, *arguments))

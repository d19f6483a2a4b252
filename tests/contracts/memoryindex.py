"""
An index in memory, for the unit tests of what uses one. Its matching is
written from PS3.4 C.2.2.2 alone, so that the index in PostgreSQL can be
compared with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from attrs import define, evolve
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from d360.attributes import REGISTRY, Attribute, Level, foldName, matchKey
from d360.errors import DatabaseUnavailable
from d360.interfaces import IIndex, IMatches, IStoredInstances
from d360.model import (
    Announcement,
    AnyOf,
    Condition,
    DatabaseState,
    Duplicates,
    Extent,
    InstanceRecord,
    Location,
    Match,
    NameMatch,
    NumberedInstance,
    Outcome,
    Query,
    Range,
    Registration,
    StoredInstance,
    Totals,
    Wildcard,
)


def wildcardMatches(pattern: str, text: str) -> bool:
    """
    C{*} is any number of characters, C{?} one (PS3.4 C.2.2.2.4): follows all
    ways through the pattern at once.
    """
    places = {0}
    for character in text:
        places = _skipStars(pattern, places)
        places = {
            place if pattern[place] == "*" else place + 1
            for place in places
            if place < len(pattern) and pattern[place] in ("*", "?", character)
        }
    return len(pattern) in _skipStars(pattern, places)


def _skipStars(pattern: str, places: Iterable[int]) -> set[int]:
    reached = set()
    for place in places:
        reached.add(place)
        while place < len(pattern) and pattern[place] == "*":
            place += 1
            reached.add(place)
    return reached


def identityOf(record: InstanceRecord) -> tuple[str, ...]:
    """What makes two patients the same."""
    if record.PatientID.strip():
        return (record.PatientID.strip(), record.IssuerOfPatientID.strip())
    return (
        "",
        foldName(record.PatientName),
        str(matchKey("DA", record.PatientBirthDate) or record.PatientBirthDate),
        record.PatientSex,
    )


@define
class _Stored:
    """
    An instance; C{record} as it is returned, C{order} of its arrival, C{number}
    of its first one.
    """

    record: InstanceRecord
    location: Location
    order: int
    number: int = 0


@define
class _Description:
    """Who describes a study or a series: the record received first."""

    record: InstanceRecord
    since: datetime
    order: int

    def offer(self, record: InstanceRecord) -> None:
        if record.SOPInstanceUID == self.record.SOPInstanceUID or (
            record.receivedAt,
            record.SOPInstanceUID,
        ) < (self.since, self.record.SOPInstanceUID):
            self.record, self.since = record, record.receivedAt


def _asStored(stored: _Stored) -> StoredInstance:
    record = stored.record
    return StoredInstance(
        record.SOPInstanceUID,
        record.SOPClassUID,
        record.TransferSyntaxUID,
        stored.location,
        record.size,
        record.digest,
    )


@implementer(IMatches, IStoredInstances)
class _Batches:
    def __init__(self, index: MemoryIndex, query: Query, stored: bool) -> None:
        self._index = index
        self._query = query
        self._stored = stored
        self._items: list[object] | None = None

    def nextBatch(self) -> Deferred[tuple[object, ...]]:
        if self._index.away:
            return fail(DatabaseUnavailable("away"))
        if self._items is None:
            found = self._index.entities(self._query)
            self._items = (
                self._index.instancesBelow(self._query.level, found)
                if self._stored
                else [self._index.answer(self._query, entity) for entity in found]
            )
        size = self._index.batchSize
        batch, self._items = self._items[:size], self._items[size:]
        return succeed(tuple(batch))

    def close(self) -> None:
        self._items = []


@implementer(IIndex)
class MemoryIndex:
    """
    @ivar away: the database cannot be reached: what fires, fails.
    @ivar batchSize: answers in a batch.
    """

    def __init__(self, batchSize: int = 2) -> None:
        self.away = False
        self.batchSize = batchSize
        self._instances: dict[str, _Stored] = {}
        self._studies: dict[str, _Description] = {}
        self._series: dict[tuple[str, str], _Description] = {}
        self._order = 0
        self._unconfirmed: dict[int, str] = {}

    # --- entering ------------------------------------------------------------

    def register(
        self, record: InstanceRecord, location: Location, duplicates: Duplicates
    ) -> Deferred[Registration]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        return succeed(self._register(record, location, duplicates, False))

    def announce(
        self, record: InstanceRecord, location: Location
    ) -> Deferred[Announcement | None]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        if record.SOPInstanceUID in self._instances:
            return succeed(None)
        done = self._register(record, location, Duplicates.KEEP, False)
        self._unconfirmed[self._order] = record.SOPInstanceUID
        return succeed(Announcement(self._order, done.patientConflict))

    def confirm(self, announcement: Announcement) -> None:
        self._unconfirmed.pop(announcement.number, None)

    def unconfirmed(self) -> Deferred[tuple[StoredInstance, ...]]:
        waiting = (self._instances.get(uid) for uid in self._unconfirmed.values())
        return succeed(tuple(_asStored(one) for one in waiting if one is not None))

    def confirmAll(self) -> Deferred[None]:
        self._unconfirmed.clear()
        return succeed(None)

    def relocate(
        self, record: InstanceRecord, location: Location
    ) -> Deferred[Registration]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        return succeed(self._register(record, location, Duplicates.REPLACE, True))

    def _register(
        self,
        record: InstanceRecord,
        location: Location,
        duplicates: Duplicates,
        relocated: bool,
    ) -> Registration:
        study = self._studies.get(record.StudyInstanceUID)
        conflict = study is not None and identityOf(study.record) != identityOf(record)
        known = self._instances.get(record.SOPInstanceUID)
        if known is None:
            self._enter(record, location)
            return Registration(Outcome.STORED, location, None, conflict)
        old = known.record
        same = (old.digest, old.TransferSyntaxUID) == (
            record.digest,
            record.TransferSyntaxUID,
        )
        here = known.location.path == location.path
        if same and (here or relocated):
            former = known.location
            self._refresh(known, record, location)
            if here:
                return Registration(Outcome.DUPLICATE, location, None, conflict)
            return Registration(Outcome.REPLACED, location, former, conflict)
        newer = (record.receivedAt, record.digest) >= (old.receivedAt, old.digest)
        stays = (
            same
            or duplicates is Duplicates.KEEP
            or (duplicates is Duplicates.NEWEST and not newer)
        )
        if stays and not here and not relocated:
            outcome = Outcome.DUPLICATE if same else Outcome.KEPT
            return Registration(outcome, known.location, location, conflict)
        self._remove(known)
        self._enter(record, location, known.number)
        superseded = None if here else known.location
        return Registration(Outcome.REPLACED, location, superseded, conflict)

    def _refresh(
        self, known: _Stored, record: InstanceRecord, location: Location
    ) -> None:
        known.record = evolve(record, receivedAt=known.record.receivedAt)
        known.location = location
        self._describe(known.record)

    def _enter(
        self, record: InstanceRecord, location: Location, number: int = 0
    ) -> None:
        self._order += 1
        self._instances[record.SOPInstanceUID] = _Stored(
            record, location, self._order, number or self._order
        )
        self._describe(record)

    def _describe(self, record: InstanceRecord) -> None:
        study, series = record.StudyInstanceUID, record.SeriesInstanceUID
        new = _Description(record, record.receivedAt, self._order)
        self._studies.setdefault(study, new).offer(record)
        new = _Description(record, record.receivedAt, self._order)
        self._series.setdefault((study, series), new).offer(record)

    def _remove(self, known: _Stored) -> None:
        record = known.record
        del self._instances[record.SOPInstanceUID]
        study, series = record.StudyInstanceUID, record.SeriesInstanceUID
        if not self._of(study, series):
            del self._series[study, series]
        if not self._of(study):
            del self._studies[study]

    def _of(self, study: str, series: str | None = None) -> list[_Stored]:
        return [
            stored
            for stored in self._instances.values()
            if stored.record.StudyInstanceUID == study
            and series in (None, stored.record.SeriesInstanceUID)
        ]

    # --- matching --------------------------------------------------------------

    def match(self, query: Query) -> IMatches:
        return _Batches(self, query, False)

    def locate(self, query: Query) -> IStoredInstances:
        return _Batches(self, query, True)

    def _patients(self) -> dict[tuple[str, ...], list[str]]:
        """The studies of each patient."""
        patients: dict[tuple[str, ...], list[str]] = {}
        for uid, study in self._studies.items():
            patients.setdefault(identityOf(study.record), []).append(uid)
        return patients

    def entities(self, query: Query) -> list[_Stored]:
        """One stand-in instance for each entity that matches."""
        return [
            entity
            for entity in self._allOf(query.level)
            if all(self._holds(c, entity, query.level) for c in query.conditions)
        ]

    def _allOf(self, level: Level) -> list[_Stored]:
        nowhere = Location("", 0)
        found: Iterable[_Stored]
        if level is Level.PATIENT:
            found = (
                _Stored(self._patientRecord(studies), nowhere, 0)
                for studies in self._patients().values()
            )
        elif level is Level.STUDY:
            found = (
                _Stored(d.record, nowhere, d.order) for d in self._studies.values()
            )
        elif level is Level.SERIES:
            found = (_Stored(d.record, nowhere, d.order) for d in self._series.values())
        else:
            found = self._instances.values()
        return sorted(found, key=lambda stored: stored.order)

    def _patientRecord(self, studies: list[str]) -> InstanceRecord:
        latest = max(studies, key=lambda uid: (self._studies[uid].since, uid))
        return self._studies[latest].record

    def _value(self, attribute: Attribute, entity: _Stored, level: Level) -> str:
        """An attribute as the entity's own level, or the one above it, has it."""
        record = entity.record
        if attribute.level is Level.IMAGE or level is Level.PATIENT:
            source = record
        elif attribute.level is Level.SERIES:
            source = self._series[
                record.StudyInstanceUID, record.SeriesInstanceUID
            ].record
        else:
            source = self._studies[record.StudyInstanceUID].record
        return str(getattr(source, attribute.keyword))

    def _holds(self, condition: Condition, entity: _Stored, level: Level) -> bool:
        attribute = condition.attribute
        if attribute.keyword == "ModalitiesInStudy":
            modality = REGISTRY.byKeyword["Modality"]
            return any(
                valueMatches(evolve(condition, attribute=modality), d.record.Modality)
                for (study, _), d in self._series.items()
                if study == entity.record.StudyInstanceUID
            )
        return valueMatches(condition, self._value(attribute, entity, level))

    def answer(self, query: Query, entity: _Stored) -> Match:
        """What C{query.returned} asks of an entity."""
        return Match(
            tuple(
                self._value(attribute, entity, query.level)
                if attribute.column
                else self._derived(attribute.keyword, entity.record)
                for attribute in query.returned
            )
        )

    def _derived(self, keyword: str, record: InstanceRecord) -> str:
        study = record.StudyInstanceUID
        if keyword == "ModalitiesInStudy":
            found = {
                d.record.Modality for (s, _), d in self._series.items() if s == study
            }
            return "\\".join(sorted(found - {""}))
        studies = {study}
        if "PatientRelated" in keyword:
            identity = identityOf(self._studies[study].record)
            studies = set(self._patients()[identity])
        if keyword.endswith("Studies"):
            return str(len(studies))
        if keyword.endswith("RelatedSeries"):
            return str(sum(s in studies for s, _ in self._series))
        series = record.SeriesInstanceUID if "SeriesRelated" in keyword else None
        return str(sum(len(self._of(uid, series)) for uid in studies))

    def instancesBelow(
        self, level: Level, entities: list[_Stored]
    ) -> list[StoredInstance]:
        """By series, then Instance Number, those without one last."""

        def belongs(record: InstanceRecord, above: InstanceRecord) -> bool:
            if level is Level.PATIENT:
                theirs = self._studies[above.StudyInstanceUID].record
                ours = self._studies[record.StudyInstanceUID].record
                return identityOf(ours) == identityOf(theirs)
            uids = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
            return all(
                getattr(record, uid) == getattr(above, uid) for uid in uids[: level - 1]
            )

        def place(stored: _Stored) -> tuple[int, bool, int, str]:
            record = stored.record
            series = self._series[record.StudyInstanceUID, record.SeriesInstanceUID]
            number = matchKey("IS", record.InstanceNumber)
            return (
                series.order,
                number is None,
                int(number or 0),
                record.SOPInstanceUID,
            )

        found = [
            stored
            for stored in self._instances.values()
            if any(belongs(stored.record, entity.record) for entity in entities)
        ]
        return [_asStored(stored) for stored in sorted(found, key=place)]

    # --- locations and totals ----------------------------------------------------

    def storedAt(self, location: Location) -> Deferred[StoredInstance | None]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        found = [s for s in self._all() if s.location.path == location.path]
        return succeed(_asStored(found[0]) if found else None)

    def _all(self) -> list[_Stored]:
        return list(self._instances.values())

    def locationsBelow(self, folder: str) -> Deferred[tuple[Location, ...]]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        below = (s.location for s in self._all())
        return succeed(tuple(x for x in below if x.path.startswith(folder + "/")))

    def extent(self, after: int) -> Deferred[Extent]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        numbers = [s.number for s in self._all() if s.number > after]
        return succeed(Extent(max(numbers, default=0), len(numbers)))

    def instancesAfter(
        self, number: int, count: int
    ) -> Deferred[tuple[NumberedInstance, ...]]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        found = sorted(
            (s for s in self._all() if s.number > number), key=lambda s: s.number
        )
        return succeed(
            tuple(NumberedInstance(s.number, _asStored(s)) for s in found[:count])
        )

    def forget(self, location: Location) -> Deferred[bool]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        found = [s for s in self._all() if s.location.path == location.path]
        for stored in found:
            self._remove(stored)
        return succeed(bool(found))

    def totals(self) -> Deferred[Totals]:
        if self.away:
            return fail(DatabaseUnavailable("away"))
        return succeed(
            Totals(
                len(self._patients()),
                len(self._studies),
                len(self._series),
                len(self._instances),
                sum(stored.record.size for stored in self._all()),
            )
        )

    def state(self) -> Deferred[DatabaseState]:
        return succeed(DatabaseState(not self.away, "embedded", "memory", 1))


def valueMatches(condition: Condition, value: str) -> bool:
    """One key against one value (PS3.4 C.2.2.2)."""
    key = matchKey(condition.attribute.vr, value)
    match condition:
        case AnyOf(keys=keys):
            return key is not None and key in keys
        case Wildcard(patterns=patterns):
            return any(wildcardMatches(pattern, value) for pattern in patterns)
        case NameMatch(patterns=patterns, group=group):
            return any(_nameMatches(p, str(key), group) for p in patterns)
        case Range(low=low, high=high):
            return (
                key is not None
                and (low is None or low <= str(key))
                and (high is None or str(key) <= high)
            )
    return False


def _nameMatches(pattern: str, key: str, group: int | None) -> bool:
    if pattern and set(pattern) == {"*"}:
        return True
    groups = key[1:-1].split("=") if key else []
    if group is None:
        return any(wildcardMatches(pattern, text) for text in groups)
    return wildcardMatches(pattern, groups[group] if group < len(groups) else "")

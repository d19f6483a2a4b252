"""C-FIND among many studies, and storing beside them."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from attrs import frozen

from benchmarks import bulk, clients, instances, population, processes
from benchmarks.association import STUDY_ROOT_FIND, Association, Refused
from benchmarks.instances import Batch
from benchmarks.population import PLANTED
from benchmarks.results import FIRST, MILLISECONDS, QUERIES, QUERY_CPU, Figure
from benchmarks.run import Run
from benchmarks.servers import D360, Server
from benchmarks.targets import BESIDE
from benchmarks.works.counting import keys
from benchmarks.works.store import division, storeOnce
from d360.index.embedded import EmbeddedServer

#: What a workstation's list of studies shows.
_SHOWN = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "ModalitiesInStudy",
]

#: A server, how many studies it has, and the end of the titles of its works.
_Filled = tuple[Server, int, str]

#: How many senders fill a server.
_FILLING = 4


@frozen
class _Question:
    """
    One kind of query.

    @ivar identifier: of the n-th time, so that none is asked twice.
    @ivar matches: how many it has.
    """

    name: str
    identifier: Callable[[int], bytes]
    matches: int


def _shown(**wanted: str) -> bytes:
    return keys("STUDY", **dict.fromkeys(_SHOWN, "") | wanted)


def _same(identifier: bytes, _: int) -> bytes:
    return identifier


def _questions(studies: int) -> Iterator[_Question]:
    def some(time: int) -> int:
        return (time * 7919 + 4321) % studies

    yield _Question(
        "patient ID", lambda n: _shown(PatientID=population.patientID(some(n))), 1
    )
    yield _Question(
        "accession number",
        lambda n: _shown(AccessionNumber=population.accessionNumber(some(n))),
        1,
    )
    for name, planted in PLANTED.items():
        identifier = _shown(**dict([planted.key]))
        yield _Question(name, partial(_same, identifier), len(planted.numbers))


def _answers(server: Server, question: _Question, title: str, times: int) -> Figure:
    """One kind of query, again and again over one association."""
    first, whole = [], []
    notes: tuple[str, ...] = ()
    with Association(server, STUDY_ROOT_FIND) as association:
        association.find(question.identifier(0))
        for number in range(1, times + 1):
            answer = association.find(question.identifier(number))
            first.append(answer.first)
            whole.append(answer.all)
            found = len(answer.matches)
            if answer.status:
                notes = (f"answered with {answer.status:04X}",)
            elif found != question.matches:
                notes = (f"{found} of {question.matches} found",)
    values = {MILLISECONDS: statistics.median(whole)}
    if question.matches > 1:
        values[FIRST] = statistics.median(first)
    return Figure(title, server.name, values, notes)


def _throughput(server: Server, studies: int, among: str, times: int) -> Figure:
    """Many queries for one patient each, one after the other."""
    question = next(_questions(studies))
    identifiers = [question.identifier(10_000 + n) for n in range(times)]
    before = processes.cpu(server.roots())
    with Association(server, STUDY_ROOT_FIND) as association:
        start = time.perf_counter()
        for identifier in identifiers:
            association.find(identifier)
        rate = times / (time.perf_counter() - start)
    used = processes.cpu(server.roots()) - before
    values = {QUERIES: rate, QUERY_CPU: used.both * 1000 / times}
    return Figure(f"C-FIND on one association{among}", server.name, values)


def _askAll(run: Run, servers: Sequence[_Filled]) -> Iterator[Figure]:
    """
    All kinds of queries; servers take turns within each.

    @param servers: each with its number of studies and the end of the titles.
    """
    queries = run.sizes.queries
    kinds = zip(*(_questions(studies) for _, studies, _ in servers), strict=True)
    for questions in kinds:
        for (server, _, among), question in zip(servers, questions, strict=True):
            title = f"C-FIND {question.name}{among}"
            times = queries if question.matches < 100 else math.ceil(queries / 5)
            try:
                yield _answers(server, question, title, times)
            except (OSError, Refused) as error:
                yield run.failed(title, type(server), error)
    for server, studies, among in servers:
        yield _throughput(server, studies, among, queries * 10)


@contextmanager
def _loaded(run: Run, studies: int) -> Iterator[Path]:
    """A folder of D360 with so many studies in its index; it goes in the end."""
    name = f"loaded-{studies}"
    folder = run.made(name)
    run.say(f"loading {studies} studies into D360")
    database = EmbeddedServer(folder / "data")
    database.start()
    try:
        bulk.load(database.url, bulk.Amount(studies))
    finally:
        database.stopNow()
    try:
        yield folder
    finally:
        run.forget(name)


def find(run: Run) -> None:
    """Queries of every kind, on servers that have the same studies."""
    studies = max(run.sizes.studies, population.FEWEST)
    run.say(f"making {studies} studies")
    folders = instances.populated(run.made("studies"), studies, _FILLING)
    among = f", {studies} studies"
    with ExitStack() as stack:
        servers = []
        for kind in run.called("D360", "Orthanc", "Orthanc PostgreSQL"):
            try:
                server = stack.enter_context(_filled(run, kind, studies, folders))
            except Exception as error:
                # The others can still be compared.
                run.take(run.failed(f"C-FIND{among}", kind, error))
            else:
                servers.append((server, studies, among))
        # To fill them takes long: all rounds are on what is there, and all
        # servers are there at the same time, so that they take turns within
        # each kind of query.
        for number in range(run.sizes.rounds):
            for figure in _askAll(run, servers):
                run.take(figure, f"round {number + 1}/{run.sizes.rounds}, ")
    run.forget("studies")


@contextmanager
def _filled(
    run: Run, kind: type[Server], studies: int, folders: Sequence[Path]
) -> Iterator[Server]:
    """A server with so many studies: loaded, or stored from folders."""
    if issubclass(kind, D360):
        with _loaded(run, studies) as place, run.serving(kind, folder=place) as server:
            yield server
        return
    with run.serving(kind) as server:
        run.say(f"storing {studies} studies in {kind.name}")
        clients.fill(server, [[folder] for folder in folders])
        yield server


def million(run: Run) -> None:
    """D360 with very many studies, in turn with few: queries and storing."""
    kinds = run.called("D360")
    if not kinds:
        return
    few, many = max(run.sizes.studies, population.FEWEST), run.sizes.many
    batches = instances.ct(run.made("more"), math.ceil(run.sizes.instances / 8))
    with _loaded(run, few) as fewer, _loaded(run, many) as more:
        for number in range(run.sizes.rounds):
            # Each round sends what is not there yet.
            sent = division(batches[number % 4 * 4 :], 1)

            def both(
                kind: type[Server], sent: Sequence[Sequence[Batch]] = sent
            ) -> list[Figure]:
                with (
                    run.serving(kind, folder=fewer) as one,
                    run.serving(kind, folder=more) as other,
                ):
                    servers = (
                        (one, few, f", {few} studies{BESIDE}"),
                        (other, many, f", {many} studies"),
                    )
                    figures = list(_askAll(run, servers))
                    for server, _, among in servers:
                        title = f"store x1 CT{among}"
                        figures.append(storeOnce(server, title, sent, True))
                    return figures

            run.measure(f"among {many} studies", kinds, both, 1)
    run.forget("more")

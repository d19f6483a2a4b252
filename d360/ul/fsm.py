"""
The upper layer protocol machine (PS3.8 9.2), written as the standard prints it.

L{TRANSITIONS} is Table 9-10, L{ACTIONS} are Tables 9-6 to 9-9. What the
protocol does is changed here and nowhere else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from attrs import frozen
from zope.interface import Interface

from d360.errors import IllegalEvent

#: Table 9-10: events down, states across, in each cell the action.
#:
#: Evt1  A-ASSOCIATE Request (local user)
#: Evt2  Transport Connection Confirm (local transport service)
#: Evt3  A-ASSOCIATE-AC PDU
#: Evt4  A-ASSOCIATE-RJ PDU
#: Evt5  Transport Connection Indication (local transport service)
#: Evt6  A-ASSOCIATE-RQ PDU
#: Evt7  A-ASSOCIATE response primitive (accept)
#: Evt8  A-ASSOCIATE response primitive (reject)
#: Evt9  P-DATA request primitive
#: Evt10 P-DATA-TF PDU
#: Evt11 A-RELEASE Request primitive
#: Evt12 A-RELEASE-RQ PDU
#: Evt13 A-RELEASE-RP PDU
#: Evt14 A-RELEASE Response primitive
#: Evt15 A-ABORT Request primitive
#: Evt16 A-ABORT PDU
#: Evt17 Transport connection closed indication (local transport service)
#: Evt18 ARTIM timer expired
#: Evt19 Unrecognized or invalid PDU received
#:
#: Sta1  Idle
#: Sta2  Transport connection open (awaiting A-ASSOCIATE-RQ PDU)
#: Sta3  Awaiting local A-ASSOCIATE response primitive (from local user)
#: Sta4  Awaiting transport connection opening to complete
#: Sta5  Awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ PDU
#: Sta6  Association established and ready for data transfer
#: Sta7  Awaiting A-RELEASE-RP PDU
#: Sta8  Awaiting local A-RELEASE response primitive (from local user)
#: Sta9  Release collision requestor side; awaiting A-RELEASE response (user)
#: Sta10 Release collision acceptor side; awaiting A-RELEASE-RP PDU
#: Sta11 Release collision requestor side; awaiting A-RELEASE-RP PDU
#: Sta12 Release collision acceptor side; awaiting A-RELEASE response (user)
#: Sta13 Awaiting Transport Connection Close Indication
TRANSITIONS = """
       Sta1  Sta2  Sta3  Sta4  Sta5  Sta6  Sta7  Sta8  Sta9  Sta10 Sta11 Sta12 Sta13
Evt1   AE-1  .     .     .     .     .     .     .     .     .     .     .     .
Evt2   .     .     .     AE-2  .     .     .     .     .     .     .     .     .
Evt3   .     AA-1  AA-8  .     AE-3  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt4   .     AA-1  AA-8  .     AE-4  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt5   AE-5  .     .     .     .     .     .     .     .     .     .     .     .
Evt6   .     AE-6  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
Evt7   .     .     AE-7  .     .     .     .     .     .     .     .     .     .
Evt8   .     .     AE-8  .     .     .     .     .     .     .     .     .     .
Evt9   .     .     .     .     .     DT-1  .     AR-7  .     .     .     .     .
Evt10  .     AA-1  AA-8  .     AA-8  DT-2  AR-6  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt11  .     .     .     .     .     AR-1  .     .     .     .     .     .     .
Evt12  .     AA-1  AA-8  .     AA-8  AR-2  AR-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-6
Evt13  .     AA-1  AA-8  .     AA-8  AA-8  AR-3  AA-8  AA-8  AR-10 AR-3  AA-8  AA-6
Evt14  .     .     .     .     .     .     .     AR-4  AR-9  .     .     AR-4  .
Evt15  .     .     AA-1  AA-2  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  AA-1  .
Evt16  .     AA-2  AA-3  .     AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-3  AA-2
Evt17  .     AA-5  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AA-4  AR-5
Evt18  .     AA-2  .     .     .     .     .     .     .     .     .     .     AA-2
Evt19  .     AA-1  AA-8  .     AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-8  AA-7
"""


@frozen
class Row:
    """
    A row of Tables 9-6 to 9-9.

    @ivar steps: methods of L{IPerformer}, in order.
    """

    action: str
    steps: tuple[str, ...]
    nextState: str


@frozen
class Choice:
    """
    A row that reads "if ..., otherwise ...".

    @ivar question: method of L{IPerformer} that answers C{True} or C{False}.
    """

    action: str
    question: str
    ifTrue: Row
    otherwise: Row


def _row(action: str, *stepsAndState: str) -> Row:
    return Row(action, stepsAndState[:-1], stepsAndState[-1])


ACTIONS: tuple[Row | Choice, ...] = (
    # Table 9-6, association establishment
    _row("AE-1", "connectTransport", "Sta4"),
    _row("AE-2", "sendAssociateRQ", "Sta5"),
    _row("AE-3", "issueAssociateAccepted", "Sta6"),
    _row("AE-4", "issueAssociateRejected", "closeTransport", "Sta1"),
    _row("AE-5", "startARTIM", "Sta2"),
    Choice(
        "AE-6",
        "isRequestAcceptable",
        _row("AE-6", "stopARTIM", "issueAssociateIndication", "Sta3"),
        _row("AE-6", "stopARTIM", "sendAssociateRJ", "startARTIM", "Sta13"),
    ),
    _row("AE-7", "sendAssociateAC", "Sta6"),
    _row("AE-8", "sendAssociateRJ", "startARTIM", "Sta13"),
    # Table 9-7, data transfer
    _row("DT-1", "sendPDataTF", "Sta6"),
    _row("DT-2", "issuePData", "Sta6"),
    # Table 9-8, association release
    _row("AR-1", "sendReleaseRQ", "Sta7"),
    _row("AR-2", "issueReleaseIndication", "Sta8"),
    _row("AR-3", "issueReleaseConfirmation", "closeTransport", "Sta1"),
    _row("AR-4", "sendReleaseRP", "startARTIM", "Sta13"),
    _row("AR-5", "stopARTIM", "Sta1"),
    _row("AR-6", "issuePData", "Sta7"),
    _row("AR-7", "sendPDataTF", "Sta8"),
    Choice(
        "AR-8",
        "isRequestor",
        _row("AR-8", "issueReleaseIndication", "Sta9"),
        _row("AR-8", "issueReleaseIndication", "Sta10"),
    ),
    _row("AR-9", "sendReleaseRP", "Sta11"),
    _row("AR-10", "issueReleaseConfirmation", "Sta12"),
    # Table 9-9, association abort
    _row("AA-1", "sendUserAbort", "startARTIM", "Sta13"),
    _row("AA-2", "stopARTIM", "closeTransport", "Sta1"),
    _row("AA-3", "issueAbort", "closeTransport", "Sta1"),
    _row("AA-4", "issueProviderAbort", "Sta1"),
    _row("AA-5", "stopARTIM", "Sta1"),
    _row("AA-6", "ignorePDU", "Sta13"),
    _row("AA-7", "sendProviderAbort", "Sta13"),
    _row("AA-8", "sendProviderAbort", "issueProviderAbort", "startARTIM", "Sta13"),
)

#: For the service user the association is over in these.
OVER = frozenset({"Sta1", "Sta13"})

#: A response that the service user gave before the standard takes it: it
#: cannot see that its answer to a release collision must wait for the peer's.
_EARLY = frozenset({("Evt14", "Sta10")})


class IPerformer(Interface):
    """
    Does the steps of the actions. Each is called with what came with the
    event; C{startARTIM} restarts a timer that runs, C{stopARTIM} may find none.
    """

    def isRequestAcceptable(argument: Any) -> bool:
        """Whether the provider has nothing against the A-ASSOCIATE-RQ."""

    def isRequestor(argument: Any) -> bool:
        """Whether we requested the association."""

    def connectTransport(argument: Any) -> None:
        """Issue TRANSPORT CONNECT request primitive to transport service."""

    def closeTransport(argument: Any) -> None:
        """Close transport connection."""

    def startARTIM(argument: Any) -> None:
        """Start, or restart, the ARTIM timer."""

    def stopARTIM(argument: Any) -> None:
        """Stop the ARTIM timer if it runs."""

    def sendAssociateRQ(argument: Any) -> None:
        """Send A-ASSOCIATE-RQ PDU."""

    def sendAssociateAC(argument: Any) -> None:
        """Send A-ASSOCIATE-AC PDU."""

    def sendAssociateRJ(argument: Any) -> None:
        """Send A-ASSOCIATE-RJ PDU."""

    def sendPDataTF(argument: Any) -> None:
        """Send P-DATA-TF PDU."""

    def sendReleaseRQ(argument: Any) -> None:
        """Send A-RELEASE-RQ PDU."""

    def sendReleaseRP(argument: Any) -> None:
        """Send A-RELEASE-RP PDU."""

    def sendUserAbort(argument: Any) -> None:
        """Send A-ABORT PDU (service-user source)."""

    def sendProviderAbort(argument: Any) -> None:
        """Send A-ABORT PDU (service-provider source)."""

    def issueAssociateIndication(argument: Any) -> None:
        """Issue A-ASSOCIATE indication primitive."""

    def issueAssociateAccepted(argument: Any) -> None:
        """Issue A-ASSOCIATE confirmation (accept) primitive."""

    def issueAssociateRejected(argument: Any) -> None:
        """Issue A-ASSOCIATE confirmation (reject) primitive."""

    def issuePData(argument: Any) -> None:
        """Issue P-DATA indication primitive."""

    def issueReleaseIndication(argument: Any) -> None:
        """Issue A-RELEASE indication primitive."""

    def issueReleaseConfirmation(argument: Any) -> None:
        """Issue A-RELEASE confirmation primitive."""

    def issueAbort(argument: Any) -> None:
        """Issue A-ABORT or A-P-ABORT indication, by the PDU's source."""

    def issueProviderAbort(argument: Any) -> None:
        """Issue A-P-ABORT indication primitive."""

    def ignorePDU(argument: Any) -> None:
        """Ignore PDU."""

    def over(argument: Any) -> None:
        """Called after each action that leaves the machine in L{OVER}."""


def _cells(table: str) -> Iterator[tuple[tuple[str, str], str]]:
    """The cells of the printed table that are not blank."""
    states, *rows = (line.split() for line in table.strip().splitlines())
    for event, *actions in rows:
        for state, action in zip(states, actions, strict=True):
            if action != ".":
                yield (event, state), action


_ROWS = {row.action: row for row in ACTIONS}
_TABLE = {cell: _ROWS[action] for cell, action in _cells(TRANSITIONS)}


class StateMachine:
    """The state of one association, and what events do to it."""

    def __init__(self, performer: IPerformer) -> None:
        self.state = "Sta1"
        self._performer = performer
        self._waiting: deque[tuple[str, Any, bool]] = deque()
        self._early: list[tuple[str, Any]] = []
        self.isActing = False

    def receive(self, event: str, argument: Any = None) -> None:
        """
        Take an event: move, then act. One that comes from within an action
        has its turn when that is done.

        @raise IllegalEvent: the cell is blank.
        """
        self._take(event, argument, False)

    def request(self, event: str, argument: Any = None) -> None:
        """
        Take a primitive of the local service user: as L{receive}, but without
        effect when the association is over by the time of its turn, which the
        user may not have heard yet.
        """
        self._take(event, argument, True)

    def _take(self, event: str, argument: Any, fromUser: bool) -> None:
        self._waiting.append((event, argument, fromUser))
        if self.isActing:
            return
        self.isActing = True
        try:
            while self._waiting:
                self._act(*self._waiting.popleft())
        finally:
            self.isActing = False

    def _act(self, event: str, argument: Any, fromUser: bool) -> None:
        row = _TABLE.get((event, self.state))
        if row is None:
            if fromUser and self.state in OVER:
                return
            if (event, self.state) in _EARLY:
                self._early.append((event, argument))
                return
            raise IllegalEvent(f"{event} in {self.state}")
        performer = self._performer
        if isinstance(row, Choice):
            answer = getattr(performer, row.question)(argument)
            row = row.ifTrue if answer else row.otherwise
        moved = self.state != row.nextState
        self.state = row.nextState
        for step in row.steps:
            getattr(performer, step)(argument)
        if row.nextState in OVER:
            performer.over(argument)
        if moved and self._early:
            self._waiting.extend((*early, True) for early in self._early)
            self._early.clear()

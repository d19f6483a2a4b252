from pynetdicom import fsm as oracle
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass

from d360.errors import IllegalEvent
from d360.ul import fsm
from d360.ul.protocol import UpperLayerProtocol

EVENTS = [f"Evt{number}" for number in range(1, 20)]
STATES = [f"Sta{number}" for number in range(1, 14)]


class Performer:
    """Notes the steps."""

    acceptable = True
    requestor = True

    def __init__(self):
        self.steps = []
        self.during = {}

    def isRequestAcceptable(self, argument):
        return self.acceptable

    def isRequestor(self, argument):
        return self.requestor

    def __getattr__(self, step):
        def perform(argument):
            self.steps.append(step)
            self.during.pop(step, lambda: None)()

        return perform


class TableTests(SynchronousTestCase):
    """PS3.8 Table 9-10 and Tables 9-6 to 9-9, cell by cell."""

    def test_cells(self):
        """Each cell is as in pynetdicom's table, and blank where that is."""
        ours = dict(fsm._cells(fsm.TRANSITIONS))
        for event in EVENTS:
            for state in STATES:
                self.assertEqual(
                    ours.get((event, state)),
                    oracle.TRANSITION_TABLE.get((event, state)),
                    (event, state),
                )

    def test_nextStates(self):
        self.assertEqual({row.action for row in fsm.ACTIONS}, set(oracle.ACTIONS))
        for row in fsm.ACTIONS:
            if isinstance(row, fsm.Choice):
                states = (row.ifTrue.nextState, row.otherwise.nextState)
            else:
                states = row.nextState
            self.assertEqual(states, oracle.ACTIONS[row.action][2], row.action)

    def test_everyCell(self):
        """Each event in each state moves and acts, or is illegal."""
        for event in EVENTS:
            for state in STATES:
                performer = Performer()
                machine = fsm.StateMachine(performer)
                machine.state = state
                action = oracle.TRANSITION_TABLE.get((event, state))
                if (event, state) == ("Evt14", "Sta10"):
                    continue
                if action is None:
                    self.assertRaises(IllegalEvent, machine.receive, event)
                    self.assertEqual(performer.steps, [])
                    self.assertEqual(machine.state, state)
                    continue
                machine.receive(event)
                expected = oracle.ACTIONS[action][2]
                if isinstance(expected, tuple):
                    expected = expected[0]
                self.assertEqual(machine.state, expected)
                self.assertNotEqual(performer.steps, [])
                self.assertEqual("over" in performer.steps, expected in fsm.OVER)

    def test_performer(self):
        """Each step that a row names is one that the protocol has."""
        verifyClass(fsm.IPerformer, UpperLayerProtocol)
        for row in fsm.ACTIONS:
            rows = (row.ifTrue, row.otherwise) if isinstance(row, fsm.Choice) else [row]
            for each in rows:
                for step in each.steps:
                    self.assertIn(step, fsm.IPerformer)


class MachineTests(SynchronousTestCase):
    def machine(self, state):
        performer = Performer()
        machine = fsm.StateMachine(performer)
        machine.state = state
        return performer, machine

    def test_eventInsideAStepWaits(self):
        """An action is done before the next begins."""
        performer, machine = self.machine("Sta6")
        performer.during["sendProviderAbort"] = lambda: machine.receive("Evt17")
        machine.receive("Evt19")
        self.assertEqual(
            performer.steps,
            [
                "sendProviderAbort",
                "issueProviderAbort",
                "startARTIM",
                "over",
                "stopARTIM",
                "over",
            ],
        )
        self.assertEqual(machine.state, "Sta1")

    def test_choices(self):
        """AE-6 and AR-8 ask."""
        performer, machine = self.machine("Sta2")
        performer.acceptable = False
        machine.receive("Evt6")
        self.assertEqual(machine.state, "Sta13")
        self.assertEqual(
            performer.steps, ["stopARTIM", "sendAssociateRJ", "startARTIM", "over"]
        )
        performer, machine = self.machine("Sta7")
        performer.requestor = False
        machine.receive("Evt12")
        self.assertEqual(machine.state, "Sta10")

    def test_requestAfterTheEnd(self):
        """A primitive of the user that crosses with the end has no effect."""
        for state in ("Sta1", "Sta13"):
            for event in ("Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"):
                performer, machine = self.machine(state)
                machine.request(event)
                self.assertEqual((performer.steps, machine.state), ([], state))

    def test_illegalRequest(self):
        """But one that the user ought not to make is a mistake."""
        _performer, machine = self.machine("Sta7")
        self.assertRaises(IllegalEvent, machine.request, "Evt9")

    def test_earlyAnswer(self):
        """In a collision the acceptor's answer waits for the requestor's."""
        performer, machine = self.machine("Sta10")
        machine.request("Evt14")
        self.assertEqual((performer.steps, machine.state), ([], "Sta10"))
        machine.receive("Evt13")
        self.assertEqual(machine.state, "Sta13")
        self.assertEqual(
            performer.steps,
            ["issueReleaseConfirmation", "sendReleaseRP", "startARTIM", "over"],
        )

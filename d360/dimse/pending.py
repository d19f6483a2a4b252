"""
The pending responses of a C-GET or C-MOVE (PS3.7 9.3.3.2, 9.3.4.2): there is one
for each instance, and they differ in four numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from d360.dimse import commands
from d360.dimse.status import PENDING
from d360.model import Command

#: Tag, length and value of the four Numbers of Suboperations.
_COUNTS = Struct("<" + "HHIH" * 4)


def pendingCommand(request: Command) -> Callable[[int, int, int, int], bytes]:
    """
    What encodes the command set of a pending response, as L{commands.encode}
    does, from the numbers of remaining, completed, failed and warning
    sub-operations.
    """
    command = Command(
        CommandField=request.CommandField | commands.RESPONSE,
        MessageIDBeingRespondedTo=request.MessageID,
        AffectedSOPClassUID=request.AffectedSOPClassUID,
        CommandDataSetType=commands.NO_DATA_SET,
        Status=PENDING,
        NumberOfRemainingSuboperations=0,
        NumberOfCompletedSuboperations=0,
        NumberOfFailedSuboperations=0,
        NumberOfWarningSuboperations=0,
    )
    head = commands.encode(command)[: -_COUNTS.size]

    def encode(remaining: int, completed: int, failed: int, warning: int) -> bytes:
        return head + _COUNTS.pack(
            *(0, 0x1020, 2, remaining),
            *(0, 0x1021, 2, completed),
            *(0, 0x1022, 2, failed),
            *(0, 0x1023, 2, warning),
        )

    return encode

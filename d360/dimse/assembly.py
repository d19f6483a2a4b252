"""
Command sets out of fragments (PS3.7 6.3.1, PS3.8 Annex E). Data sets are not
assembled: they go on as they come.
"""

from __future__ import annotations

from d360.dimse.commands import decode
from d360.errors import PDUError
from d360.model import Command, Fragment

#: A command set with each element of Annex E.1 stays well below it.
MAX_COMMAND_SET = 16384


class CommandAssembly:
    """The command set that is coming in, piece by piece."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._contextID = 0

    def write(self, fragment: Fragment) -> Command | None:
        """
        Take a piece.

        @return: the command set, once it is complete.
        @raise PDUError: it is too long, malformed, or spread over several
            presentation contexts.
        """
        if self._data and fragment.contextID != self._contextID:
            raise PDUError(
                PDUError.INVALID_PARAMETER, "presentation context changed in a message"
            )
        self._contextID = fragment.contextID
        self._data += fragment.data
        if len(self._data) > MAX_COMMAND_SET:
            raise PDUError(PDUError.INVALID_PARAMETER, "command set is too long")
        if not fragment.isLast:
            return None
        data, self._data = bytes(self._data), bytearray()
        return decode(data)

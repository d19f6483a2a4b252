"""What the server asks of a child process."""

from __future__ import annotations

from attrs import frozen


@frozen
class Job:
    """
    A data set that is to be brought to another transfer syntax.

    @ivar path: of the stored file.
    @ivar offset: where in it the data set begins.
    @ivar output: path of a new file, for the data set and nothing else.
    """

    path: str
    offset: int
    transferSyntax: str
    target: str
    output: str

"""What an administrator, or a test, may choose of the upper layer."""

from __future__ import annotations

from attrs import frozen

from d360 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from d360.hosts import HostLimits
from d360.ul.framing import LONGEST_SENT


@frozen
class UpperLayerSettings:
    """
    Times are in seconds.

    @ivar maxPDULength: the longest P-DATA-TF that we receive, and announce.
    @ivar artim: of the Association Request/Reject/Release timer (PS3.8
        9.1.5).
    @ivar idleTimeout: an association whose peer is silent for so long, while
        nothing of ours is under way, is aborted; 0 never.
    @ivar minRate: bytes a second at which a message must come at least, on
        average over C{idleTimeout}; 0 any.
    @ivar answerTimeout: how long a peer may take over the answer to an
        A-ASSOCIATE-RQ or A-RELEASE-RQ, for which the standard has no timer.
    @ivar maxConnections: connections beyond are closed at once, whatever
        becomes of them; 0 no limit.
    @ivar perHost: of those that one host may have.
    @ivar logData: log each P-DATA-TF too, at debug; costs more than handing
        one on.
    """

    maxPDULength: int = LONGEST_SENT
    artim: float = 30.0
    idleTimeout: float = 600.0
    minRate: int = 100
    answerTimeout: float = 30.0
    maxConnections: int = 0
    perHost: HostLimits = HostLimits()
    implementationClassUID: str = IMPLEMENTATION_CLASS_UID
    implementationVersion: str = IMPLEMENTATION_VERSION
    logData: bool = False

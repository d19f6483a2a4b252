"""AE titles that are bound to a certificate (PS3.15 B, PS3.8 9.3.4)."""

from __future__ import annotations

from d360.errors import AssociationRejected
from d360.model import AssociationRequest, RemoteAE


def checkCertificate(remote: RemoteAE | None, request: AssociationRequest) -> None:
    """
    See that a remote AE shows its certificate, if it has one.

    @param remote: what is known of who calls.
    @raise AssociationRejected: 1,1,3: whoever calls is not the AE of that title.
    """
    if remote is None or remote.certificate in ("", request.certificate):
        return
    who = f"calling AE title {remote.title!r} is bound to a certificate, and"
    if request.certificate:
        why = (
            f"{who} another was shown, {request.certificate}: if that is its new "
            "one, d360ctl ae add it anew with that"
        )
    else:
        why = (
            f"{who} none was shown: have it call the port of TLS with its "
            "certificate, or d360ctl ae add it anew without one"
        )
    raise AssociationRejected(1, 1, 3, why)

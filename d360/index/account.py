"""
Under which account the embedded PostgreSQL runs: it refuses to run as root.

D360 run by root puts it into a user namespace in which root's own id has
another number: its files stay root's, also below folders that are closed to
all others. Where the system does not allow that, as some containers do not,
an unprivileged account takes the place.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from d360.errors import StartupError

#: The id that root has inside; any but 0.
_INSIDE = "1000"


@frozen
class Account:
    """
    How to run a program of PostgreSQL.

    @ivar prefix: what stands before the program; it gives way to it by exec,
        so that the process ID stays.
    @ivar owner: the account to change to, and to which the files belong;
        C{None} for our own.
    """

    prefix: tuple[str, ...] = ()
    owner: pwd.struct_passwd | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """For C{subprocess}: they change to the account."""
        if self.owner is None:
            return {}
        return {
            "user": self.owner.pw_uid,
            "group": self.owner.pw_gid,
            "extra_groups": [],
        }

    def give(self, folder: Path) -> None:
        """Let a folder with all in it belong to the account."""
        if self.owner is None:
            return
        ids = (self.owner.pw_uid, self.owner.pw_gid)
        os.chown(folder, *ids)
        for parent, folders, names in os.walk(folder):
            for name in (*folders, *names):
                os.chown(os.path.join(parent, name), *ids, follow_symlinks=False)


def accountFor(folder: Path, program: Path, fallback: str) -> Account:
    """
    The account for a database's folder.

    @param program: C{postgres}, for a trial run.
    @param fallback: the name of the unprivileged account.
    @raise StartupError: there is no way.
    """
    if os.geteuid() != 0:
        return Account()
    # What an unprivileged account wrote in an earlier run remains its own.
    data = folder / "data"
    owned = data.exists() and data.stat().st_uid != 0
    unshare = shutil.which("unshare")
    if unshare is not None and not owned:
        prefix = (unshare, "--user", f"--map-user={_INSIDE}")
        if _runs([*prefix, str(program), "--version"]):
            return Account(prefix)
    try:
        account = Account((), pwd.getpwnam(fallback))
    except KeyError:
        raise StartupError(
            f"PostgreSQL does not run as root, and there is no account {fallback!r}: "
            "run D360 as an ordinary user, or set database.url"
        ) from None
    account.give(folder)
    if not _runs([str(program), "--version"], account) or not _runs(
        ["test", "-w", str(folder)], account
    ):
        raise StartupError(
            f"PostgreSQL does not run as root, and the account {fallback!r} cannot "
            f"reach {folder} or {program}: run D360 as an ordinary user, move "
            "data_directory, or set database.url"
        )
    return account


def _runs(command: Sequence[str], account: Account | None = None) -> bool:
    arguments = account.arguments if account else {}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=20, cwd="/", check=False, **arguments
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0

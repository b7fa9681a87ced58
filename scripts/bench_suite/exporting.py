"""The memory of an export, and its rate, when very many messages are on record.

    python -m scripts.bench_suite.exporting [MESSAGES]

measures each format on an embedded database of its own. All messages are copies of one, with nothing personal in it.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil
import psycopg

from ledger.commands.export import FORMATS
from ledger.domain.message import Person
from ledger.main import Parts
from ledger.store.application import fold
from ledger.store.rows import COLUMNS
from projections import current_status
from scripts.bench_suite import database, growth, servers, units

_STEP: Final = 1_000_000
_LOOK_SECONDS: Final = 0.2
_LOOKUPS: Final = ("provider_lookup", "recipient_lookup", "reference_lookup")
_COLUMNS: Final = [name for name in COLUMNS if name not in _LOOKUPS]
_COPY: Final = f"""
INSERT INTO current_status (partition, stream_id, version, message_id, opened_at, {", ".join(_COLUMNS)})
SELECT get_byte(uuid_send(made.stream_id), 0) %% %s, made.stream_id, 1, made.n, clock_timestamp(),
       {", ".join(["%s"] * len(_COLUMNS))}
  FROM (SELECT n, md5(n::text)::uuid AS stream_id FROM generate_series(%s::bigint, %s::bigint) n) made
"""


class Exported(NamedTuple):
    format: str
    rate: float  #: messages a second
    early_bytes: int  #: resident, after a tenth of the time
    most_bytes: int


def fill(built: Parts, url: str, messages: int) -> None:
    """Put copies of one message on record."""
    growth.fill(built, 1)
    stream_id = database.value(url, "SELECT stream_id FROM current_status")
    with psycopg.connect(url, autocommit=True) as connection:
        message = msgspec.structs.replace(fold(built.ledger.replay(connection, stream_id)), person=Person())
        made = current_status.row(built.names, message, stream_id=stream_id, version=1, first=1, last=1, key=None)
        values = [getattr(made, name) for name in _COLUMNS]
        for first in range(1, messages + 1, _STEP):
            last = min(first + _STEP - 1, messages)
            connection.execute(_COPY.encode(), (built.ledger.partitions, *values, first, last))
        connection.execute("VACUUM (ANALYZE) current_status")


def export(url: str, directory: Path, format_: str, messages: int) -> Exported:
    """Run the command and look at its memory until it ends."""
    output = directory / f"messages.{format_}"
    command = [sys.executable, "-m", "ledger", "export", "messages", "--format", format_, "--output", str(output)]
    began, seen = time.perf_counter(), list[int]()
    with subprocess.Popen(command, env=servers.ledger_environment(url, directory), stderr=subprocess.PIPE) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            seen.append(watched.memory_info().rss)
            time.sleep(_LOOK_SECONDS)
        told = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        raise RuntimeError(f"the export failed: {told}")
    return Exported(format_, messages / (time.perf_counter() - began), seen[len(seen) // 10], max(seen))


def main(messages: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        directory.chmod(0o755)
        with (
            database.databases(None, directory / "postgres") as databases,
            databases.ledger() as url,
            units.parts(url, directory) as built,
        ):
            fill(built, url, messages)
            for format_ in FORMATS:
                print(export(url, directory, format_, messages), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)

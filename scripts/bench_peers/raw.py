"""The limits that PostgreSQL itself sets: what can be inserted, one row or a thousand at a time.

Both insert into a table like the ledger's `events`, with its columns and its two indexes, and rows of the same size.
"""

import subprocess
import time
from os import urandom
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg

from ledger.store import arrays
from scripts.bench_suite import database

_TABLE: Final = """
CREATE TABLE rows (
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    stream_id uuid NOT NULL,
    version integer NOT NULL,
    partition smallint NOT NULL,
    type text NOT NULL,
    hash bytea NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (partition, stream_id, version)
);
CREATE UNIQUE INDEX rows_position ON rows (partition, position);
CREATE SEQUENCE positions;
"""
_ONE: Final = """
INSERT INTO rows (position, stream_id, version, partition, type, hash, state)
VALUES (nextval('positions'), gen_random_uuid(), 1, 0, 'observed.v1', '\\x{hash}', '\\x{state}');
"""
_MANY: Final = b"""
INSERT INTO rows (position, stream_id, version, partition, type, hash, state)
SELECT nextval('positions'), s, v, 0, t, h, d
  FROM unnest(%s::uuid[], %s::integer[], %s::text[], %s::bytea[], %s::bytea[]) AS r (s, v, t, h, d)
"""


def create(url: str) -> None:
    for statement in _TABLE.split(";"):
        if statement.strip():
            database.execute(url, statement)


def single_rows(url: str, directory: Path, state_bytes: int, seconds: float) -> float:
    """Return durable inserts per second of one client, one row a transaction, by pgbench with prepared statements."""
    create(url)
    script = directory / "single.sql"
    script.write_text(" ".join(_ONE.format(hash=urandom(32).hex(), state=urandom(state_bytes).hex()).split()))
    done = subprocess.run(
        [str(database.programs() / "pgbench"), "-n", "-M", "prepared", "-c", "1", "-T", str(max(1, round(seconds))),
         "-f", str(script)],
        env=database.environment(url),
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    )  # fmt: skip
    (rate,) = [line.split()[2] for line in done.stdout.splitlines() if line.startswith("tps = ")]
    return float(rate)


def array_rows(url: str, state_bytes: int, seconds: float, rows: int = 1_000) -> float:
    """Return rows per second of one connection that inserts so many rows a transaction from binary arrays."""
    create(url)
    count, hashes = 0, [urandom(32) for _ in range(rows)]
    states = [urandom(state_bytes) for _ in range(rows)]
    versions, types = [1] * rows, ["observed.v1"] * rows
    with psycopg.connect(url, autocommit=True) as connection:
        connection.adapters.register_dumper(arrays.Column, arrays.ColumnDumper)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            parameters = (
                arrays.uuids([uuid4() for _ in range(rows)]),
                arrays.integers(versions),
                arrays.texts(types),
                arrays.byteas(hashes),
                arrays.byteas(states),
            )
            connection.execute(_MANY, parameters, prepare=True)
            count += rows
        return count / (time.perf_counter() - began)

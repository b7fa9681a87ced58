"""Carries out rebuilds that were asked for on a page: by the command `rebuild`, in a process of its own."""

import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import psycopg
import structlog

from ledger.commands.common import DONE, FOUND
from ledger.store.application import Ledger, StoreUnavailable
from projections import rebuild_orders
from projections.generations import Connection
from projections.rebuild_orders import Order

_LOOK_SECONDS: Final = 1.0
_REST_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 10.0
_ERROR_CHARACTERS_MAX: Final = 500
#: It shares the machine with what answers requests.
_PROCESSES: Final = "1"

_log = structlog.get_logger("ledger.rebuilding")


def start(ledger: Ledger, environment: Mapping[str, str], stopping: threading.Event) -> threading.Thread:
    """Look for orders in a thread until told to stop. What is under way then goes on at the next start."""
    thread = threading.Thread(target=_run, args=(ledger, environment, stopping), name="rebuilds", daemon=True)
    thread.start()
    return thread


def _run(ledger: Ledger, environment: Mapping[str, str], stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            with ledger.connect() as connection:
                while not stopping.is_set():
                    if not _carried_out(connection, environment, stopping):
                        stopping.wait(_LOOK_SECONDS)
        except (psycopg.Error, StoreUnavailable) as error:
            _log.warning("rebuild_orders_postponed", error=type(error).__name__)
            stopping.wait(_REST_SECONDS)


def _carried_out(connection: Connection, environment: Mapping[str, str], stopping: threading.Event) -> bool:
    """Carry out an order. Return False if there was none."""
    with rebuild_orders.taken(connection) as order:
        if order is None:
            return False
        ended = _rebuild(order, environment, stopping)
        if ended is not None:
            rebuild_orders.end(connection, order, *ended)
            _log.info("rebuild_ended", projection=order.projection, dry_run=order.dry_run, error=ended[1])
        return True


def _rebuild(
    order: Order, environment: Mapping[str, str], stopping: threading.Event
) -> tuple[dict[str, Any] | None, str | None] | None:
    """Return (outcome, error); None if it was interrupted."""
    command = [sys.executable, "-m", "ledger", "rebuild", order.projection, "--json", "--processes", _PROCESSES]
    process = subprocess.Popen(  # noqa: S603  # ourselves
        [*command, "--dry-run"] if order.dry_run else command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while True:
        try:
            told, errors = process.communicate(timeout=_LOOK_SECONDS)
            break
        except subprocess.TimeoutExpired:
            if stopping.is_set():
                process.terminate()
                process.communicate(timeout=_PATIENCE_SECONDS)
                return None
    if process.returncode in (DONE, FOUND):
        return msgspec.json.decode(told)[order.projection], None
    lines = errors.strip().splitlines()
    return None, (lines[-1] if lines else f"exit code {process.returncode}")[:_ERROR_CHARACTERS_MAX]

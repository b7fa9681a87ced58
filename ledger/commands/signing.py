"""The thread of `serve` that signs checkpoints as the log grows, and sends them to whoever subscribes."""

import threading
from typing import Final

import psycopg
import structlog

from ledger import environment
from ledger.config import Settings
from ledger.http.receivers import Receivers
from ledger.store.application import Ledger, StoreUnavailable
from ledger.store.checkpoints import Checkpoints, Forked, Store

_LOOK_SECONDS: Final = 1.0
#: After trouble: what is wrong stays wrong for a while, and is logged as often.
_REST_SECONDS: Final = 30.0

_log = structlog.get_logger("ledger.signing")


def start(settings: Settings, ledger: Ledger, stopping: threading.Event) -> threading.Thread:
    """Start the thread. It ends soon after `stopping` is set, and survives whatever happens to the database."""
    thread = threading.Thread(target=_run, args=(settings, ledger, stopping), name="signing", daemon=True)
    thread.start()
    return thread


def _run(settings: Settings, ledger: Ledger, stopping: threading.Event) -> None:
    receivers = Receivers(settings.checkpoint_receivers or ())
    while not stopping.is_set():
        try:
            with ledger.connect(statement_timeout="60s") as connection:
                signer, store = environment.signer(settings), Store(settings.checkpoints_place)
                checkpoints = Checkpoints(connection, signer, store)
                while not stopping.wait(_LOOK_SECONDS):
                    checkpoints.due()
                    receivers.tell(checkpoints, settings.partitions)
        except (psycopg.Error, StoreUnavailable) as error:
            _log.warning("checkpoints_postponed", why=type(error).__name__)
        except Forked as forked:
            _log.error("checkpoint_refused", why=str(forked))
        except (OSError, ValueError) as error:
            _log.error("checkpoint_not_kept", why=type(error).__name__)
        stopping.wait(_REST_SECONDS)

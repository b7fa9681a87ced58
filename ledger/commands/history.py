"""`history MESSAGE_ID` replays one message; `correct MESSAGE_ID` decides its open conflict."""

import argparse
import threading
from datetime import UTC, datetime
from typing import Any

from ledger.commands.common import DONE, USAGE, CommandFailed, caller, instant, parts, print_json
from ledger.domain.message import NotInConflict
from ledger.domain.status import Outcome
from ledger.http import render
from ledger.http.problems import timestamp
from ledger.http.shapes import HistoryItem
from ledger.ingest.register import Correction, Sender
from ledger.ingest.writer import Job
from ledger.main import Parts
from ledger.store import access_log
from projections.current_status import Opened


def add_to(commands: Any) -> None:
    history = commands.add_parser("history", help="replay everything recorded about a message")
    history.add_argument("message_id", type=int)
    history.add_argument("--as-of", type=instant, metavar="TIME", help="rewind to then (RFC 3339)")
    history.add_argument(
        "--clock", choices=render.CLOCKS, default=render.RECORDED, help="what --as-of means: on record, or happened"
    )
    history.add_argument("--json", action="store_true")
    history.set_defaults(run=_history)
    correct = commands.add_parser("correct", help="decide the open conflict of a message, with a name and a reason")
    correct.add_argument("message_id", type=int)
    correct.add_argument("--to", required=True, choices=[Outcome.DELIVERED.value, Outcome.FAILED.value])
    correct.add_argument("--by", required=True, help="who decides")
    correct.add_argument("--why", required=True)
    correct.add_argument("--json", action="store_true")
    correct.set_defaults(run=_correct)


def _history(told: argparse.Namespace) -> int:
    with parts() as built:
        opened = find(built, told.message_id)
        _log(built, "history", told.message_id, opened)
        events = built.ledger.history(opened.stream_id)
    events = render.as_of(events, told.as_of, told.clock)
    steps = list(render.replay(events))
    items = [item for item, _ in steps]
    status = steps[-1][1].status if steps else opened.message.status.UNKNOWN
    if told.json:
        as_of = timestamp(told.as_of) if told.as_of else None
        print_json(
            {
                "message_id": told.message_id,
                "as_of": as_of,
                "clock": told.clock,
                "status": status,
                "items": items,
                "next_cursor": None,
            }
        )
    else:
        print(f"Message {told.message_id}: {status}, {len(items)} events")
        for item in items:
            print(_line(item))
    return DONE


def _line(item: HistoryItem) -> str:
    told = item.provider_status or item.kind
    code = f" [{item.error_code}]" if item.error_code else ""
    occurred = timestamp(item.occurred_at) if item.occurred_at else "no provider time"
    doubt = "" if item.occurred_at_believed in (None, True) else " (not believed)"
    return (
        f"\n{item.position:>10}  {timestamp(item.recorded_at)}  {item.source or item.kind}: {told}{code}\n"
        f"            {item.status_before} -> {item.status_after}  {item.verdict or item.kind}: {item.why}\n"
        f"            happened {occurred}{doubt}, received {timestamp(item.received_at)}\n"
        f"            hash {item.hash}"
        + (f"\n            {item.error_text}" if item.error_text else "")
        + (f"\n            {item.evidence}" if item.evidence else "")
    )


def _correct(told: argparse.Namespace) -> int:
    with parts() as built:
        opened = find(built, told.message_id)
        message = opened.message
        _log(built, "correct", told.message_id, opened)
        sender = Sender(message.account, message.provider, built.names)
        correction = Correction(to=Outcome(told.to), by=told.by, why=told.why)
        job = sender.correct(opened.stream_id, message.channel, correction, datetime.now(UTC))
        _write(built, job)
        status = find(built, told.message_id).message.status
    if told.json:
        print_json({"message_id": told.message_id, "status": status})
    else:
        print(f"Message {told.message_id} is {status}")
    return DONE


def _log(built: Parts, did: str, message_id: int, opened: Opened) -> None:
    access_log.record(built.ledger, caller(), did, message_id=message_id, account=opened.message.account)


def _write(built: Parts, job: Job) -> None:
    ended = threading.Event()
    writer = built.writer(lambda _: ended.set())
    writer.start()
    writer.submit(job)
    ended.wait()
    writer.close()
    if isinstance(job.error, NotInConflict):
        raise CommandFailed("the message has no open conflict")
    if job.error is not None:
        raise job.error


def find(built: Parts, message_id: int) -> Opened:
    opened = built.messages.get(message_id) if 0 <= message_id < 1 << 53 else None
    if opened is None:
        raise CommandFailed(f"no message {message_id}", USAGE)
    return opened

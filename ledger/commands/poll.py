"""`poll MESSAGE_ID` asks the provider about one message; `poll --dry-run` shows what would be asked."""

import argparse
import random
import time
from datetime import UTC, datetime
from typing import Any, Final

from ledger import logs, main
from ledger.commands.common import DONE, FAILED, USAGE, CommandFailed, parts, print_json, print_table
from ledger.domain import polling as rules
from ledger.domain.identity import partition
from ledger.http.problems import timestamp
from ledger.ingest.accept import Intake
from ledger.main import Parts
from ledger.main import intakes as intakes_of
from ledger.polling.account import AccountPoller, Recorder
from ledger.polling.asking import PROPER, Asked, Asker
from ledger.polling.client import Client
from ledger.polling.worker import can_be_asked, deliver
from ledger.store.polls import AccountState, Polls, chance_of
from projections.current_status import Opened
from projections.feed import progress
from projections.poll_schedule import PollSchedule

#: Messages listed for each account.
SHOWN: Final = 10
#: How long a place in the account's pace is waited for.
PATIENCE_SECONDS: Final = 15.0


def add_to(commands: Any) -> None:
    poll = commands.add_parser("poll", help="ask the provider about a message, or show what would be asked")
    poll.add_argument("message_id", type=int, nargs="?", metavar="MESSAGE_ID")
    poll.add_argument("--dry-run", action="store_true", help="ask nothing; without an id, show every account's polling")
    poll.add_argument("--json", action="store_true")
    poll.set_defaults(run=_poll)


def _poll(told: argparse.Namespace) -> int:
    if told.message_id is None and not told.dry_run:
        raise CommandFailed("give a message id, or --dry-run to see what is due", USAGE)
    settings = main.settings()
    logs.configure(settings.log_format, settings.log_level)
    with parts(told=settings) as built:
        polls = Polls(built.ledger)
        if told.message_id is None:
            return _overview(built, polls, as_json=told.json)
        return _one(built, polls, told)


# One message ----------------------------------------------------------------------------------------------------------


def _one(built: Parts, polls: Polls, told: argparse.Namespace) -> int:
    opened = _find(built, told.message_id)
    intake = _intake(built, opened)
    polling, how = intake.account.poll, intake.provider.polls
    assert polling is not None and how is not None  # noqa: S101, PT018  # `_intake` looked
    client = Client(polling)
    asker = Asker(intake, how, polling, client, now=lambda: datetime.now(UTC))
    try:
        question = asker.question(opened.message)
        if question is None:
            raise CommandFailed("the provider cannot be asked about this message: its id there is not known", FAILED)
        shown: dict[str, Any] = {
            "message_id": told.message_id,
            "account": intake.account.name,
            "status": opened.message.status,
            "request": f"GET {polling.base_url}{question.target}",
            **_planned(built, polls, opened),
        }
        if not told.dry_run:
            asked = _ask(built, polls, asker, opened)
            after = _find(built, told.message_id)
            news = after.version - opened.version
            shown |= {"came": asked.came, "why": asked.why, "status": after.message.status, "recorded": news}
    finally:
        client.close()
    _print(shown, as_json=told.json)
    return DONE if told.dry_run or shown["came"] in PROPER else FAILED


def _planned(built: Parts, polls: Polls, opened: Opened) -> dict[str, Any]:
    """Return why and when the message is asked about: as the queue has it, or will once it has followed all events."""
    queued = polls.of_stream((partition(opened.stream_id, built.ledger.partitions), opened.stream_id))
    row = None
    for each in built.ledger.history(opened.stream_id):
        row = rules.follow(row, each.event, each.version, each.recorded_at)
    if row is None or row.why is None:
        return {"reason": rules.reason_to_ask(opened.message), "next_at": None, "asked": 0, "last": None}
    next_at: datetime | None = rules.first_ask(row.why, row.since, chance_of(opened.stream_id))
    asked, last = 0, None
    if queued is not None and queued.since == row.since:
        next_at, asked, last = queued.next_at, queued.asked, queued.answer
    return {"reason": row.why, "next_at": timestamp(next_at) if next_at else None, "asked": asked, "last": last}


def _ask(built: Parts, polls: Polls, asker: Asker, opened: Opened) -> Asked:
    """Ask in the account's pace, record the answer as the poller does, and tell the account's breaker."""
    account = asker.account.name
    place, seconds = polls.place(account, asker.polling, opened.stream_id)
    if place is None:
        raise CommandFailed(f"the account {account} is not to be asked for another {max(1, seconds):.0f} s", FAILED)
    try:
        return _ask_at(built, polls, asker, opened, seconds)
    finally:
        polls.leave(place)


def _ask_at(built: Parts, polls: Polls, asker: Asker, opened: Opened, seconds: float) -> Asked:
    account = asker.account.name
    if seconds > PATIENCE_SECONDS:
        raise CommandFailed(f"the account {account} is not to be asked for another {seconds:.0f} s", FAILED)
    time.sleep(max(0.0, seconds))
    writer = built.writer(deliver)
    writer.start()
    recorder, stream_id = Recorder(writer.submit), opened.stream_id
    stream = (partition(stream_id, built.ledger.partitions), stream_id)
    poller = AccountPoller(
        asker, polls, built.ledger, recorder, account=account, wait=_no_wait, chance=random.SystemRandom(), width=1
    )
    try:
        asked = asker.ask(stream_id, opened.message, lambda body, at: polls.keep(account, stream, body, at))
        if asked.job is not None:
            job = asked.job
            recorder.record([job])
            if job.error is not None:
                raise job.error
        if asked.kept is not None:
            polls.forget(asked.kept)
        poller.tell_of([asked])
    finally:
        writer.close()
    return asked


def _no_wait(_seconds: float) -> bool:
    return False


def _print(shown: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(shown)
        return
    print(f"Message {shown['message_id']}, account {shown['account']}: {shown['status']}")
    reason, next_at = shown["reason"] or "nothing is to be found out", shown["next_at"] or "not planned"
    print(f"reason to ask: {reason}; next: {next_at}; asked {shown['asked']} times, last {shown['last'] or 'never'}")
    print(shown["request"])
    if "came" in shown:
        why = f" ({shown['why']})" if shown["why"] else ""
        print(f"{shown['came']}{why}; {shown['recorded']} events recorded")


# All accounts ---------------------------------------------------------------------------------------------------------


def _overview(built: Parts, polls: Polls, *, as_json: bool) -> int:
    names = [name for name, intake in intakes_of(built).items() if can_be_asked(intake)]
    states = polls.states(names)
    due = {name: polls.next(name, SHOWN) for name in names}
    with built.ledger.reading() as cursor:
        behind = sum(each.lag_events for each in progress(cursor, [PollSchedule()]) if each.state == "live")
    if as_json:
        items = [_state(state, built, due[state.account]) for state in states]
        print_json({"items": items, "events_behind": behind})
        return DONE
    if behind:
        print(f"{behind} events are not in the schedule yet; serve follows them")
    headings = ("ACCOUNT", "DUE", "WAITING", "ASKING", "STUCK", "BREAKER", "PAUSED UNTIL", "NEXT WALK")
    print_table(
        headings,
        [
            (each.account, each.due, each.waiting, each.asking, each.stuck, _breaker(each), *_times(each))
            for each in states
        ],
    )
    for name in names:
        for stream_id, why, due_at, asked, last in due[name]:
            message_id = built.messages.of_stream(stream_id)
            shown = message_id.shown_id if message_id else "?"
            print(f"{name}  message {shown}  {why}  due {timestamp(due_at)}  asked {asked}  last {last or 'never'}")
    return DONE


def _state(state: AccountState, built: Parts, due: list[Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {name: getattr(state, name) for name in state.__struct_fields__}
    for name in ("open_until", "paused_until", "walk_at"):
        shown[name] = timestamp(shown[name]) if shown[name] else None
    items = []
    for stream_id, why, due_at, asked, last in due:
        opened = built.messages.of_stream(stream_id)
        message_id = opened.shown_id if opened else None
        items.append({"message_id": message_id, "why": why, "due_at": timestamp(due_at), "asked": asked, "last": last})
    return shown | {"next": items}


def _breaker(state: AccountState) -> str:
    return f"{state.breaker} ({state.why})" if state.why else state.breaker


def _times(state: AccountState) -> tuple[str, str]:
    return tuple(timestamp(at) if at else "-" for at in (state.paused_until, state.walk_at))  # type: ignore[return-value]


def _intake(built: Parts, opened: Opened) -> Intake:
    name = opened.message.account
    intake = intakes_of(built).get(name)
    if intake is None:
        raise CommandFailed(f"the account {name} is not configured any more", USAGE)
    if intake.provider.polls is None:
        raise CommandFailed(f"the account {name} is not set up to be asked: its provider cannot be asked", USAGE)
    if intake.account.poll is None:
        raise CommandFailed(
            f"the account {name} is not set up to be asked: it has no table accounts.{name}.poll", USAGE
        )
    return intake


def _find(built: Parts, message_id: int) -> Opened:
    opened = built.messages.get(message_id) if 0 <= message_id < 1 << 53 else None
    if opened is None:
        raise CommandFailed(f"no message {message_id}", USAGE)
    return opened

"""From a script to requests: the sender's, the providers', copies of them, and some that must be turned away."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain, count
from typing import Any, Final

import msgspec

from ledger.commands.simulation import script
from ledger.commands.simulation.model import (
    SPAN_SECONDS,
    Account,
    Call,
    Dice,
    Ids,
    Message,
    Report,
    Request,
    Sender,
    tag,
)
from ledger.commands.simulation.script import PROVIDERS, Line

#: How often a callback is sent: a share of all, and the fewest and most copies beside the first.
_COPIES: Final = ((0.12, 1, 2), (0.02, 3, 9))
#: Copies of the one callback that is repeated most.
COPIES_MAX: Final = 45
#: Messages of each account that somebody lies about.
_FORGED_MAX: Final = 3
_ANY_TIME: Final = (0.0, SPAN_SECONDS)
_JSON: Final = {"Content-Type": "application/json"}


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """A whole play. Calls are numbered from 0, in order; their times are not."""

    seed: int
    run: datetime
    lines: tuple[Line, ...]
    calls: tuple[Call, ...]

    @property
    def keys(self) -> set[tuple[str, str]]:
        """Account and channel of every API key that the play needs."""
        return {(line.message.account.name, line.message.channel) for line in self.lines}


def compose(accounts: Sequence[Account], messages: int, seed: int, run: datetime) -> Play:
    """Write a play for the accounts, one a provider."""
    told = Dice(seed)
    lines = script.write(accounts, messages, told, Ids(seed, run))
    calls: list[Call] = []
    for line in lines:
        calls += _sender_calls(line, run, len(calls))
    for account in accounts:
        own = [line for line in lines if line.message.account is account]
        calls += _callbacks(account, own, told, len(calls))
        calls += _unwelcome(account, own, run, told, len(calls))
    calls += _copies(calls, told)
    return Play(seed=seed, run=run, lines=tuple(lines), calls=tuple(calls))


# The sending system ---------------------------------------------------------------------------------------------------


def _sender_calls(line: Line, run: datetime, number: int) -> Iterator[Call]:
    """Yield the registration of a message, and its hand-off if that is a request of its own."""
    message, sender = line.message, line.message.sender
    if sender is Sender.NEVER:
        return
    key = (message.account.name, message.channel)
    heard = line.reports[0].arrives if line.reports else message.starts
    at = {Sender.WITH_ID: message.starts, Sender.LATE: heard + 20}.get(sender, message.starts - 5)
    has_id = sender in (Sender.WITH_ID, Sender.LATE)
    told: dict[str, Any] = {
        "channel": message.channel,
        "recipient": message.recipient,
        "client_reference": message.client_reference,
        "queued_at": _written(message.queued_at),
        "metadata": {"story": message.story.name},
        "conversation": {"conversation_id": f"conversation-{message.number}", "part_id": "1"},
        **(_handed_off(message) if has_id else {}),
        **({"failure": {"text": message.local_failure}} if sender is Sender.FAILED else {}),
    }
    headers = _JSON if has_id else {**_JSON, "Idempotency-Key": f"{tag(run)}-{message.client_reference}"}
    yield Call(
        number=number,
        at=at,
        target="/v1/messages",
        body=_json(told),
        headers=headers,
        key=key,
        message=message.number,
        expected=201,
    )
    if sender in (Sender.FIRST, Sender.OVERTAKEN, Sender.FAILED_LATER):
        failed = {"failure": {"text": message.local_failure}}
        yield Call(
            number=number + 1,
            at=heard + 10 if sender is Sender.OVERTAKEN else message.starts,
            target="/v1/messages/{message_id}/handoff",
            body=_json(failed if message.local_failure else _handed_off(message)),
            headers=_JSON,
            key=key,
            message=message.number,
            after=(number,),
        )


def _handed_off(message: Message) -> dict[str, Any]:
    return {
        "provider_message_id": message.provider_message_id,
        "sent_at": _written(message.sent_at),
        "provider_status": message.accepted_as,
    }


def _written(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds") if at else None


def _json(told: dict[str, Any]) -> bytes:
    return json.dumps({name: value for name, value in told.items() if value is not None}).encode()


# The providers --------------------------------------------------------------------------------------------------------


def _callbacks(account: Account, lines: Sequence[Line], told: Dice, number: int) -> Iterator[Call]:
    """Yield an account's callbacks in order of arrival. Claims that contradict one another wait for the one before."""
    reports = sorted(chain.from_iterable(line.reports for line in lines), key=lambda report: report.arrives)
    last: dict[int, int] = {}
    for request in PROVIDERS[account.provider].requests(account, reports, told):
        ordered = [report.message.number for report in request.reports if report.message.story.in_order]
        after = sorted({last[message] for message in ordered if message in last})
        last.update(dict.fromkeys(ordered, number))
        at = max(report.arrives for report in request.reports)
        yield _call(account, request, number, at, after=tuple(after))
        number += 1


def _call(account: Account, request: Request, number: int, at: float, **fields: Any) -> Call:
    target = f"/webhooks/{account.name}{'?' if request.query else ''}{request.query}"
    return Call(number=number, at=at, target=target, body=request.body, headers=request.headers, **fields)


def _copies(calls: Sequence[Call], told: Dice) -> Iterator[Call]:
    """Yield repeats of callbacks: at the same time, or up to minutes later; one of them is repeated most of all."""
    callbacks = [call for call in calls if call.key is None and call.expected == 200]
    if not callbacks:
        return
    worst = told.choice(callbacks)
    numbers = count(len(calls))
    for call in callbacks:
        times = COPIES_MAX if call is worst else 0
        for share, least, most in _COPIES:
            if told.chance(share):
                times = max(times, told.randint(least, most))
        for _ in range(times):
            at = call.at + (0.0 if told.chance(0.3) else told.uniform(0.1, 200))
            yield msgspec.structs.replace(call, number=next(numbers), at=at, is_copy=True)


# What must be turned away, or says nothing ----------------------------------------------------------------------------


def _unwelcome(account: Account, lines: Sequence[Line], run: datetime, told: Dice, number: int) -> Iterator[Call]:
    provider, numbers = PROVIDERS[account.provider], count(number)
    for request in provider.noise(account, run, told):
        yield _call(account, request, next(numbers), told.uniform(*_ANY_TIME))
    for report in _to_be_forged(lines, told):
        for request in provider.forged(account, report, told):
            yield _call(account, request, next(numbers), report.arrives + told.uniform(-5, 30), expected=401)
    place = f"/webhooks/{account.name}"
    registration = b'{"channel": "whatsapp", "recipient": "+12025550199"}'
    for target, body, headers, expected in (
        ("/webhooks/NOBODY", b"{}", _JSON, 404),  # no account may be called so
        (place, b"<status/>", {"Content-Type": "text/xml"}, 415),
        ("/v1/messages", registration, _JSON, 401),
        ("/v1/messages", registration, {**_JSON, "X-Octopods-Auth": "slk_guessed"}, 401),
    ):
        at = told.uniform(*_ANY_TIME)
        yield Call(number=next(numbers), at=at, target=target, body=body, headers=headers, expected=expected)


def _to_be_forged(lines: Sequence[Line], told: Dice) -> list[Report]:
    """Choose among messages that have not failed: there a forged failure would show."""
    chosen = [
        line.reports[0]
        for line in lines
        if line.reports and not any(report.step.says == "FAILED" for report in line.reports)
    ]
    return told.sample(chosen, min(_FORGED_MAX, len(chosen)))

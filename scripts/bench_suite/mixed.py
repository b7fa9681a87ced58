"""Callbacks of ten providers, mixed as a team with all of them would get them: each truly signed, in turns. To compare
with, made in the same way: those of one of them alone, and those of the same ten, one provider after another.

Items and signatures are those of the adapters' own tests, which share no code with what reads and verifies them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice, product
from pathlib import Path
from typing import Any, Final, NamedTuple

from ledger.wire.contract import Webhook
from scripts.bench_suite.callbacks import Callbacks
from tests.providers import senders_more
from tests.providers.requests import BASE_URL
from tests.providers.webhook_cases import CASES, Case

_SECRET: Final = "a secret made up for benchmarks"
#: Messages of a block, of all providers together: all have their first status, then all the second, then the third.
_BLOCK: Final = 2_000


class Sender(NamedTuple):
    """How one provider reports three steps of a message."""

    case: str  #: of the conformance suite
    words: tuple[str, str, str]
    sign: Callable[[bytes, bytes, int], Webhook] | None = None  #: where a signature has a time


SENDERS: Final = (
    Sender("meta", ("sent", "delivered", "read")),
    Sender("twilio callback", ("sent", "delivered", "read")),
    Sender("vonage message", ("submitted", "delivered", "read"), senders_more.sign_vonage),
    Sender("infobip", ("PENDING_ACCEPTED", "PENDING_ENROUTE", "DELIVERED_TO_HANDSET")),
    Sender("sinch message", ("QUEUED_ON_CHANNEL", "DELIVERED", "READ"), senders_more.sign_sinch),
    Sender("telnyx", ("queued", "sent", "delivered"), senders_more.sign_telnyx),
    Sender("bird channels", ("accepted", "sent", "delivered"), senders_more.sign_bird),
    Sender("plivo", ("queued", "sent", "delivered")),
    Sender("dialog360", ("sent", "delivered", "read")),
    Sender("standardwebhooks v1", ("sent", "delivered", "read"), senders_more.sign_standard),
)
#: The provider that the others are compared with: the most frequent one, and the cheapest to verify.
ALONE: Final = SENDERS[:1]
_BY_NAME: Final = {case.name: case for case in CASES}


def accounts() -> str:
    """Return the accounts file that these senders need."""
    return "\n".join(_account(_BY_NAME[sender.case]) for sender in SENDERS)


def _account(case: Case) -> str:
    account = case.account(_SECRET)
    lines = [
        f"[accounts.{case.provider.name}-mixed]",
        f'provider = "{account.provider}"',
        f'channel = "{account.channel.value}"',
        f"secrets = {[secret.reveal().decode() for secret in account.secrets]!r}",
        f'public_url = "{BASE_URL}"',
    ]
    if case.options:
        lines += ["[accounts." + case.provider.name + "-mixed.options]", *_toml(case.options)]
    return "\n".join(lines) + "\n"


def _toml(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _toml(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name} = {value!r}".replace("True", "true").replace("False", "false")


def requests(
    total: int, senders: Sequence[Sender] = SENDERS, *, first: int = 0, in_runs: bool = False
) -> Iterator[tuple[Sender, Webhook]]:
    """Yield so many requests with one new status each, providers in turns; `in_runs`: two hundred of each in a row."""
    return islice(_endless(senders, first, in_runs), total)


def _endless(senders: Sequence[Sender], first: int, in_runs: bool) -> Iterator[tuple[Sender, Webhook]]:
    at, each = int(time.time()), _BLOCK // len(senders)
    for block in count(first):
        numbers = range(block * each, (block + 1) * each)
        in_turns = ((sender, number) for number in numbers for sender in senders)
        order = list(product(senders, numbers) if in_runs else in_turns)
        for step in range(3):
            for sender, number in order:
                yield sender, _request(sender, f"{5_741_311_803_571_000_000 + number}", step, at)


def _request(sender: Sender, message_id: str, step: int, at: int) -> Webhook:
    case = _BY_NAME[sender.case]
    item = case.encode(case.item(message_id, sender.words[step]))
    content = case.wrap([item])
    if sender.sign is None:
        return case.sign(content, _SECRET.encode())
    return sender.sign(content, _SECRET.encode(), at)


def write(
    file: Path, total: int, senders: Sequence[Sender] = SENDERS, *, first: int = 0, in_runs: bool = False
) -> Callbacks:
    """Write a file of requests, as `callbacks.write` does, from a block of messages on."""
    size = 0
    with file.open("wb", buffering=1 << 20) as out:
        for sender, webhook in requests(total, senders, first=first, in_runs=in_runs):
            provider = _BY_NAME[sender.case].provider.name
            query = f"?{webhook.query.decode()}" if webhook.query else ""
            head = f"{webhook.method} /webhooks/{provider}-mixed{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
            for name, value in webhook.headers.pairs:  # type: ignore[attr-defined]
                head += name + b": " + value + b"\r\n"
            size = len(webhook.body)
            request = head + b"Content-Length: %d\r\n\r\n" % size + webhook.body
            out.write(b"%08d" % len(request) + request)
    return Callbacks(file, total, 1, size)

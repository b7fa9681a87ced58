"""Distinct, truly signed callbacks, written to a file before anything is measured.

A record is a complete HTTP request: eight decimal digits that give its length, then its bytes. The load generator sends
records in order, so the file decides what is new, what follows and what is a failure. Messages come in blocks: all
`sent` of a block, then all `delivered`, then all `read`; one message in ten fails instead.
"""

import hashlib
import hmac
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

ACCOUNT: Final = "meta-bench"
PATH: Final = f"/webhooks/{ACCOUNT}"
SECRET: Final = "a secret made up for benchmarks"
SIGNATURE: Final = "x-hub-signature-256"

#: Messages in a block. More than are ever in flight with one status a request; with a hundred, a message may well be in
#: two requests at once, as it is when a campaign's receipts come in.
_BLOCK: Final = 2_000
_FAILING: Final = 10

BODY: Final = (
    '{"object":"whatsapp_business_account","entry":[{"id":"102290129340398","changes":[{"value":'
    '{"messaging_product":"whatsapp","metadata":{"display_phone_number":"15550783881",'
    '"phone_number_id":"106540352242922"},"statuses":[%s]},"field":"messages"}]}]}'
)
_STATUS: Final = (
    '{"id":"%s","status":"%s","timestamp":"%d","recipient_id":"1202%07d","conversation":'
    '{"id":"6ceb9d929c9bdc4f90967a32f8639b42","expiration_timestamp":"%d","origin":{"type":"utility"}},'
    '"pricing":{"billable":true,"pricing_model":"PMP","category":"utility","type":"regular"}}'
)
_FAILED: Final = (
    '{"id":"%s","status":"failed","timestamp":"%d","recipient_id":"1202%07d","errors":[{"code":131026,'
    '"title":"Message undeliverable","message":"Message undeliverable","error_data":'
    '{"details":"Message Undeliverable."},"href":"https://developers.facebook.com/docs/whatsapp/cloud-api/support/"}]}'
)
_REQUEST: Final = (
    f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: facebookexternalua\r\nAccept: */*\r\n"
    f"Content-Type: application/json\r\n{SIGNATURE}: sha256=%s\r\nContent-Length: %d\r\n\r\n"
)


class Callbacks(NamedTuple):
    """A file of requests. `offset` is where the first unsent one begins."""

    file: Path
    requests: int
    statuses: int  #: in each request
    bytes_each: int  #: of a body, roughly


def wamid(number: int, run: str = "bench") -> str:
    """Return a wamid as Meta makes them: the recipient's number is in it."""
    told = f"1202{number % 10**7:07d}".encode()
    unique = hashlib.blake2b(f"{run}:{number}".encode(), digest_size=16).hexdigest().upper().encode()
    return "wamid." + b64encode(b"\x1d\x04\x12" + told + b"\x15\x02\x00\x11\x18\x12" + unique).decode()


def statuses(count: int, *, run: str = "bench", first: int = 0, block: int = _BLOCK) -> Iterator[str]:
    """Yield so many status items, in the order in which a provider would report them."""
    now, left, number = int(time.time()) - 3_600, count, first
    while left > 0:
        numbers = range(number, number + block)
        number += block
        names = [wamid(each, run) for each in numbers]
        for step, word in enumerate(("sent", "delivered", "read")):
            at = now + step
            for each, name in zip(numbers, names, strict=True):
                fails = each % _FAILING == 0
                if left == 0 or (fails and word == "read"):
                    continue
                left -= 1
                if fails and word == "delivered":
                    yield _FAILED % (name, at, each % 10**7)
                else:
                    yield _STATUS % (name, word, at, each % 10**7, now + 86_400)


def bodies(requests: int, per_body: int = 1, *, run: str = "bench", first: int = 0) -> Iterator[bytes]:
    """Yield so many request bodies of `per_body` statuses each."""
    items = statuses(requests * per_body, run=run, first=first)
    for _ in range(requests):
        yield (BODY % ",".join(next(items) for _ in range(per_body))).encode()


def further(numbers: Iterable[int], *, run: str = "bench") -> Iterator[bytes]:
    """Yield bodies with one more status each, which the messages of these numbers have not had yet."""
    now = int(time.time())
    for number in numbers:
        status = _STATUS % (wamid(number, run), "played", now, number % 10**7, now + 86_400)
        yield (BODY % status).encode()


def sign(body: bytes) -> str:
    return hmac.digest(SECRET.encode(), body, "sha256").hex()


def write(file: Path, requests: int, per_body: int = 1, *, run: str = "bench", first: int = 0) -> Callbacks:
    """Write a file of requests."""
    size = 0
    with file.open("wb", buffering=1 << 20) as out:
        for body in bodies(requests, per_body, run=run, first=first):
            size = len(body)
            request = (_REQUEST % (sign(body), size)).encode() + body
            out.write(b"%08d" % len(request) + request)
    return Callbacks(file, requests, per_body, size)


def offset_of(callbacks: Callbacks, number: int) -> int:
    """Return where in the file the given request begins."""
    at = 0
    with callbacks.file.open("rb") as file:
        for _ in range(number):
            at += 8 + int(file.read(8))
            file.seek(at)
    return at

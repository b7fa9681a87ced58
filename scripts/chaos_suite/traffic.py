"""Callbacks as Meta, Twilio and Viber send them, truly signed, and clients that send them as those do.

Every status of every message is said in one request only, so that what is on record can be counted. A client keeps a
list of what it was answered; nothing of the service is asked for it.
"""

import heapq
import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any, Final, NamedTuple

from ledger.wire.contract import Webhook
from tests.polling.provider import ACCOUNT as TWILIO_ACCOUNT
from tests.providers import senders
from tests.providers.requests import header_pairs

META, TWILIO, VIBER, POLLED = "meta-chaos", "twilio-chaos", "viber-chaos", "polled-chaos"
#: How ids of messages begin whose outcome no callback tells.
UNTOLD: Final = "SMuntold"
TWILIO_URL: Final = "https://ledger.example.com/hooks/twilio"
_SECRETS: Final = {META: "meta-secret", TWILIO: "twilio-secret", VIBER: "viber-secret", POLLED: "polled-secret"}
_VIBER_WORDS: Final = ("delivered", "seen")
#: What a provider waits for an answer, about; ours leaves within 5 s.
_PATIENCE_SECONDS: Final = 10.0
_RETRY_SECONDS: Final = (0.05, 1.0)
#: How many are sent twice at the same moment; how many are given up after an answer that is no 200.
_TWICE, _GIVEN_UP = 0.2, 0.2


def accounts(poll: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the accounts of all senders here. `poll` tells how Twilio is asked about messages of one of them."""
    told: dict[str, dict[str, Any]] = {
        META: {"provider": "meta", "channel": "whatsapp"},
        VIBER: {"provider": "viber", "channel": "viber"},
        TWILIO: {"provider": "twilio", "channel": "sms", "public_url": TWILIO_URL},
        POLLED: {"provider": "twilio", "channel": "sms", "public_url": TWILIO_URL, "poll": poll},
    }
    return {name: {**fields, "secrets": [_SECRETS[name]]} for name, fields in told.items()}


class Said(NamedTuple):
    """One status of one message, by the provider's own names."""

    message: str
    word: str


class Callback(NamedTuple):
    account: str
    body: bytes
    headers: dict[str, str]
    says: tuple[Said, ...]

    @property
    def path(self) -> str:
        return f"/webhooks/{self.account}"


def _callback(account: str, webhook: Webhook, *says: Said) -> Callback:
    headers = {name.decode(): value.decode() for name, value in header_pairs(webhook)}
    return Callback(account, webhook.body, headers, says)


def meta(*says: Said) -> Callback:
    items = [json.dumps(senders.meta_status(*said)).encode() for said in says]
    return _callback(META, senders.sign_meta(senders.wrap_meta(items), _SECRETS[META].encode()), *says)


def twilio(said: Said, account: str = TWILIO) -> Callback:
    fields = {
        "MessageSid": said.message,
        "MessageStatus": said.word,
        "AccountSid": TWILIO_ACCOUNT,
        "To": "+12025550111",
    }
    form = senders.encode_form(fields)
    return _callback(account, senders.sign_twilio_form(form, _SECRETS[account].encode(), TWILIO_URL), said)


def viber(said: Said) -> Callback:
    body = json.dumps(senders.viber_callback(*said)).encode()
    return _callback(VIBER, senders.sign_viber(body, _SECRETS[VIBER].encode()), said)


def campaign(random: Random, sender: int) -> Iterator[Callback]:
    """Yield callbacks for ever, in the order of nothing: a status may overtake another one of its message."""
    waiting: list[Said] = []
    for number in itertools.count():
        name = f"{sender}-{number}"
        waiting += [
            Said(f"wamid.{name}", word) for word in random.choice((("sent", "delivered", "read"), ("sent", "failed")))
        ]
        match random.randrange(8):
            case 0:
                yield from (twilio(Said(f"SM{name}", word)) for word in random.sample(("sent", "delivered"), 2))
            case 1:
                token = str(5_741_000_000_000_000_000 + sender * 10**9 + number)
                yield from (viber(Said(token, word)) for word in _VIBER_WORDS)
            case 2:
                yield twilio(Said(f"{UNTOLD}{name}", "sent"), POLLED)
        random.shuffle(waiting)
        while len(waiting) > 6:
            count = random.randint(1, 4)
            yield meta(*waiting[:count])
            del waiting[:count]


Address = tuple[str, int]


class Journal:
    """What clients were answered. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent: list[Callback] = []
        self.acked: set[Said] = set()
        self.answers = Counter[str]()
        self.slowest_seconds = 0.0
        self.slowest_was = ""  #: what was answered then
        self.wrong: list[str] = []
        self._kills: list[tuple[str, float]] = []
        self.recovery: dict[str, list[float]] = {}

    def note_kill(self, kind: str) -> None:
        with self.lock:
            self._kills.append((kind, time.monotonic()))

    @property
    def is_waiting(self) -> bool:
        """Tell whether there was a kill after which nothing has been answered 200 yet."""
        with self.lock:
            return bool(self._kills)

    def forget_kill(self) -> None:
        """Take the last kill back: there was nothing to kill."""
        with self.lock:
            self._kills.pop()

    def note(self, callback: Callback, begun: float, status: int | None, retry_after: str | None) -> None:
        """Note an answer, None if none came."""
        now = time.monotonic()
        with self.lock:
            self.answers[str(status or "none")] += 1
            if status is not None and now - begun > self.slowest_seconds:
                self.slowest_seconds, self.slowest_was = now - begun, f"{status}"
            if status == 200:
                self.acked.update(callback.says)
                for kind, at in [kill for kill in self._kills if kill[1] < begun]:
                    self.recovery.setdefault(kind, []).append(now - at)
                    self._kills.remove((kind, at))
            elif status == 503 and not (retry_after or "").isdigit():
                self.wrong.append("an answer 503 without Retry-After")
            elif status not in (None, 503):
                self.wrong.append(f"an answer {status} to a signed callback")


class Client:
    """One sender. Sends while `going`, sends again what was not taken, and ends when told to and nothing is left."""

    def __init__(
        self, address: Address, journal: Journal, random: Random, number: int, other: Address | None = None
    ) -> None:
        """What is sent twice goes to the `other` address as well, if there is one."""
        self._journal = journal
        self._random = random
        self._campaign = campaign(random, number)
        self._left: list[http.client.HTTPConnection] = []  #: one of them may still wait for an answer
        self._again: list[tuple[float, int, int, Callback]] = []
        self._numbers = itertools.count()
        self._connections: list[http.client.HTTPConnection] = []
        self.turn_to(address, other)

    def turn_to(self, address: Address, other: Address | None = None) -> None:
        """Send to another address from now on, what is to be repeated too."""
        before = self._connections
        self._connections = [
            http.client.HTTPConnection(*each, timeout=_PATIENCE_SECONDS) for each in (address, other or address)
        ]
        self._left += before

    def run(self, going: threading.Event, settle_seconds: float) -> int:
        """Send new callbacks until `going` is cleared, and old ones until none waits; return how many still do then."""
        pause, until = threading.Event(), 0.0
        while going.is_set() or self._again:
            if not going.is_set():
                until = until or time.monotonic() + settle_seconds
                if time.monotonic() >= until:
                    break
            if self._again and self._again[0][0] <= time.monotonic():
                _, _, attempt, callback = heapq.heappop(self._again)
                self._deliver(callback, attempt)
            elif going.is_set():
                callback = next(self._campaign)
                with self._journal.lock:
                    self._journal.sent.append(callback)
                self._deliver(callback, 0)
            pause.wait(self._random.random() * 0.02)
        return len(self._again)

    def _deliver(self, callback: Callback, attempt: int) -> None:
        times = 2 if self._random.random() < _TWICE else 1
        answers = self._exchange(callback, times)
        if 200 in answers:
            return
        # Twilio does not repeat what was answered with an error, and others do not for ever.
        gives_up = callback.account in (TWILIO, POLLED) and 503 in answers
        if not gives_up and (attempt > 0 or self._random.random() > _GIVEN_UP):
            first, most = _RETRY_SECONDS
            wait = min(most, first * 2**attempt) * (0.5 + self._random.random())
            heapq.heappush(self._again, (time.monotonic() + wait, next(self._numbers), attempt + 1, callback))

    def _exchange(self, callback: Callback, times: int) -> list[int | None]:
        """Send a request on so many connections at once, then look at the answers."""
        begun, sent = time.monotonic(), []
        for connection in self._connections[:times]:
            try:
                connection.request("POST", callback.path, callback.body, callback.headers)
            except OSError:
                connection.close()
            else:
                sent.append(connection)
        answers = [self._answer(callback, connection, begun) for connection in sent]
        return answers or [None]

    def _answer(self, callback: Callback, connection: http.client.HTTPConnection, begun: float) -> int | None:
        status, retry_after = None, None
        try:
            answer = connection.getresponse()
            answer.read()
            status, retry_after = answer.status, answer.headers["retry-after"]
        except (OSError, http.client.HTTPException):
            connection.close()
        self._journal.note(callback, begun, status, retry_after)
        return status

    def close(self) -> None:
        for connection in (*self._connections, *self._left):
            connection.close()

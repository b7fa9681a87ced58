"""Many clients tell the stories of the same few messages at once, and contradict each other.

In each round, 32 clients over several processes deliver every callback of the round, each in an order of its own, while
the same messages are registered and handed off by all of them, providers are asked, and readers watch. Afterwards the
log holds every report exactly once, and each message is what the executable specification of the status machine makes
of what was recorded: event by event, and whatever the order where the order must not matter.
"""

import http.client
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

import psycopg

from ledger.domain.events import AnyEvent, MessageLinked, MessageRegistered, StatusObserved
from ledger.domain.observation import Source
from ledger.domain.status import Channel, Style
from ledger.main import Parts
from scripts.chaos_suite import oracle, traffic
from scripts.chaos_suite.deployment import Deployment, deployed, parts
from scripts.chaos_suite.scenarios import Options, Result, Scenario, say
from scripts.chaos_suite.traffic import META, POLLED, Callback, Said
from tests.domain import model

CLIENTS: Final = 32
_READERS: Final = 2
_WORKERS: Final = 3
#: Messages a round, by what happens to them.
_SETTLED, _CONTRADICTED, _POLLED, _REGISTERED, _HANDED_OFF = 6, 6, 4, 4, 4
_PATIENCE_SECONDS: Final = 10.0
_ATTEMPTS_MAX: Final = 50
_POLL_NOW: Final = b"UPDATE poll_asks SET next_at = clock_timestamp() WHERE next_at > clock_timestamp()"


class Telling(NamedTuple):
    """One request that every client sends: a callback, or what the sender knows."""

    path: str
    body: bytes
    headers: dict[str, str]
    says: tuple[Said, ...] = ()  #: of a callback


class Story(NamedTuple):
    """What is told of one message in a round."""

    account: str
    reference: str
    tellings: tuple[Telling, ...]
    registered: bool = False
    handed_off: bool = False


def run(options: Options) -> Result:
    rounds = options.count(short=2, long=60)
    with deployed(workers=_WORKERS, planted=options.planted) as made, parts(made.environ, made.postgres.url) as built:
        races = _Races(made, built, Random(options.seed))
        for number in range(1, rounds + 1):
            races.round(number)
            if number % 10 == 0 or number == rounds:
                say(f"{number} of {rounds} rounds: {races.delivered} deliveries")
            if races.result.violations:
                break
        return races.finish(number)


class _Races:
    def __init__(self, made: Deployment, built: Parts, random: Random) -> None:
        self._made, self._random = made, random
        self._events: dict[UUID, list[AnyEvent]] = defaultdict(list)
        self._log = oracle.Log(built, made.postgres.url, lambda stream_id, event: self._events[stream_id].append(event))
        self._headers = {
            account: {
                "x-octopods-auth": built.keys.create(account, channel, Style.UNIFIED)[1],
                "content-type": "application/json",
            }
            for account, channel in _CHANNELS.items()
        }
        self._sent: list[Callback] = []
        self._checked: set[UUID] = set()
        self._seen = Counter[str]()
        self.delivered = 0
        self.answers = Counter[int]()
        self.result = Result()

    # A round ----------------------------------------------------------------------------------------------------------

    def round(self, number: int) -> None:
        stories = list(self._stories(number))
        tellings = [telling for story in stories for telling in story.tellings]
        over, before = threading.Event(), self._redelivered()
        with ThreadPoolExecutor(CLIENTS + _READERS + 1) as threads:
            watching = [threads.submit(self._watch, stories[each::_READERS], over) for each in range(_READERS)]
            polling = threads.submit(self._poll, over)
            racing = [threads.submit(self._race, self._random.sample(tellings, len(tellings))) for _ in range(CLIENTS)]
            wrong = [what for each in racing for what in each.result()]
            over.set()
            polling.result()
            wrong += [what for each in watching for what in each.result()]
        self._violated(number, wrong + self._judge(stories, before))

    def _stories(self, number: int) -> Iterator[Story]:
        for kind, words in (
            *(("settled", ("sent", "delivered", "read")),) * _SETTLED,
            *(("contradicted", ("sent", "delivered", "read", "failed")),) * _CONTRADICTED,
        ):
            reference = f"wamid.{kind}-{number}-{len(self._sent)}"
            yield Story(META, reference, tuple(self._told(traffic.meta(Said(reference, word))) for word in words))
        for each in range(_POLLED):
            reference = f"{traffic.UNTOLD}race-{number}-{each}"
            words = ("sent", "undelivered") if each % 2 else ("queued", "sent")
            yield Story(
                POLLED, reference, tuple(self._told(traffic.twilio(Said(reference, word), POLLED)) for word in words)
            )
        for each in range(_REGISTERED):
            reference = f"wamid.registered-{number}-{each}"
            told = tuple(self._told(traffic.meta(Said(reference, word))) for word in ("delivered", "failed"))
            yield Story(META, reference, (*told, self._registration(reference)), registered=True)
        for each in range(_HANDED_OFF):
            reference = f"wamid.handed-off-{number}-{each}"
            told = tuple(self._told(traffic.meta(Said(reference, word))) for word in ("sent", "delivered"))
            yield Story(META, reference, (*told, self._hand_off(reference)), handed_off=True)

    def _told(self, callback: Callback) -> Telling:
        self._sent.append(callback)
        return Telling(callback.path, callback.body, callback.headers, callback.says)

    def _registration(self, reference: str) -> Telling:
        body = {"channel": "whatsapp", "recipient": "+12025550111", "provider_message_id": reference}
        headers = {**self._headers[META], "idempotency-key": f"registration-{reference}"}
        return Telling("/v1/messages", json.dumps(body).encode(), headers)

    def _hand_off(self, reference: str) -> Telling:
        """Register a message without its provider's id; return the request that tells it."""
        registration = json.dumps({"channel": "whatsapp", "recipient": "+12025550111"}).encode()
        telling = Telling("/v1/messages", registration, self._headers[META])
        with closing(self._connection()) as connection:
            status, told = _exchange(connection, telling)
        if status != 201:
            raise RuntimeError(f"a registration was answered {status}")
        body = json.dumps({"provider_message_id": reference, "provider_status": "sent"}).encode()
        return Telling(f"/v1/messages/{told['message_id']}/handoff", body, self._headers[META])

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self._made.address, timeout=_PATIENCE_SECONDS)

    def _race(self, tellings: list[Telling]) -> list[str]:
        """Send everything until it is taken; return what was answered that should not have been."""
        connection, wrong = self._connection(), []
        for telling in tellings:
            for _ in range(_ATTEMPTS_MAX):
                status, _told = _exchange(connection, telling)
                self.answers[status] += 1
                if status in (200, 201):
                    break
                if status != 503:
                    wrong.append(f"{telling.path} was answered {status}")
                    break
            else:
                wrong.append(f"{telling.path} was not taken in {_ATTEMPTS_MAX} attempts")
        connection.close()
        return wrong

    def _poll(self, over: threading.Event) -> None:
        """Let everything that may be asked about be due, again and again."""
        with psycopg.connect(self._made.postgres.url, autocommit=True) as connection:
            while not over.wait(0.05):
                connection.execute(_POLL_NOW)

    def _watch(self, stories: list[Story], over: threading.Event) -> list[str]:
        """Ask where messages stand, all the time; return where an answer went back on an earlier one."""
        connection, wrong = self._connection(), []
        shown: dict[str, tuple[str, int]] = {}
        for story in cycle(stories):
            if over.is_set():
                break
            told = self._found(connection, story)
            if told is None:
                continue
            self._seen["answers to readers"] += 1
            status, version = told["status"], told["version"]
            before, version_before = shown.get(story.reference, ("UNKNOWN", 0))
            if not model.climbs(before, status) or version < version_before:
                wrong.append(f"{story.reference} was {before} ({version_before}), and then {status} ({version})")
            shown[story.reference] = (status, version)
        connection.close()
        return wrong

    def _found(self, connection: http.client.HTTPConnection, story: Story) -> dict[str, Any] | None:
        path = f"/v1/messages?provider_message_id={story.reference}"
        status, told = _exchange(connection, Telling(path, b"", self._headers[story.account]), "GET")
        if status != 200 or not told["items"]:
            return None
        (message,) = told["items"]
        return dict(message)

    # What must hold ---------------------------------------------------------------------------------------------------

    def _judge(self, stories: list[Story], redelivered: float) -> list[str]:
        wrong = self._log.read()
        sent = {said for callback in self._sent for said in callback.says}
        found, self._figures = self._log.compare(self._sent, sent)
        wrong += found
        callbacks = CLIENTS * sum(bool(telling.says) for story in stories for telling in story.tellings)
        fresh = sum(bool(telling.says) for story in stories for telling in story.tellings)
        self.delivered += CLIENTS * sum(len(story.tellings) for story in stories)
        again = self._redelivered() - redelivered
        if not self.answers[503] and again != callbacks - fresh:
            wrong.append(f"{again:g} callbacks were known already, and not {callbacks - fresh}")
        for stream_id in self._events.keys() - self._checked:
            wrong += self._fold(self._events[stream_id])
        self._checked = set(self._events)
        with closing(self._connection()) as connection:
            for story in stories:
                wrong += self._as_recorded(connection, story)
        return wrong

    def _fold(self, events: list[AnyEvent]) -> list[str]:
        """Compare a message's events with what the specification says of them, in the order of recording."""
        message, claims, wrong = model.Message(), [], []
        registrations = sum(isinstance(event, MessageRegistered) for event in events)
        links = sum(isinstance(event, MessageLinked) for event in events)
        if registrations > 1 or links > 1:
            wrong.append(f"a message was registered {registrations} times and linked {links} times")
        for event in events:
            if not isinstance(event, StatusObserved):
                continue
            claim = _claim(event)
            claims.append(claim)
            expected = model.verdict(message, claim)
            before, message = message.status, model.observe(message, claim)
            told = (event.verdict.value, event.status_before.value, event.status_after.value)
            if told != (expected, before, message.status):
                wrong.append(f"recorded {told}, and the specification says {(expected, before, message.status)}")
            self._seen[f"verdict {expected}"] += 1
            self._seen["of polls"] += event.source is not Source.CALLBACK and event.source is not Source.SENDER
        again = model.Message()
        for claim in sorted(claims):
            again = model.observe(again, claim)
        is_settled = message.conflict == "none"
        if again.evidence != message.evidence or (is_settled and model.view(again) != model.view(message)):
            wrong.append("another order of the same claims ends otherwise")
        return wrong

    def _as_recorded(self, connection: http.client.HTTPConnection, story: Story) -> list[str]:
        """Compare what a reader is told of a message with its events."""
        streams = [stream for stream, name in self._log.names.items() if name == story.reference]
        leading = [stream for stream in streams if any(isinstance(e, StatusObserved) for e in self._events[stream])]
        told = self._found(connection, story)
        if len(leading) != 1 or told is None:
            return [f"{story.reference} has {len(leading)} streams, and is {'not ' if told is None else ''}found"]
        message = model.Message()
        for event in self._events[leading[0]]:
            if isinstance(event, StatusObserved):
                message = model.observe(message, _claim(event))
        shown = (told["status"], told["conflict"])
        expected = (_SHOWN.get(message.status, message.status), message.conflict)
        wrong = [] if shown == expected else [f"{story.reference} is shown as {shown}, and recorded as {expected}"]
        self._seen["conflicts"] += message.conflict == "open"
        events = self._events[leading[0]]
        if story.registered and not any(isinstance(event, MessageRegistered) for event in events):
            wrong.append(f"{story.reference} was registered, and that is not on record")
        if story.handed_off and not any(isinstance(event, MessageLinked) and event.leads for event in events):
            wrong.append(f"{story.reference} was handed off, and that is not on record")
        return wrong

    def _redelivered(self) -> float:
        with closing(self._connection()) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        lines = (line for line in text.splitlines() if line.startswith("ledger_redelivered_total"))
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _violated(self, number: int, what: list[str]) -> None:
        self.result.violations += [f"round {number}: {each}" for each in what]

    def finish(self, rounds: int) -> Result:
        if oracle.caught_up(self._made.postgres.url) is None:
            self._violated(rounds, ["read models stayed behind"])
        self._violated(rounds, self._made.wrong_in_derived())
        result = self.result
        result.figures = {
            "rounds": rounds,
            "clients": CLIENTS,
            "deliveries": self.delivered,
            "events": self._log.position,
            **self._figures,
            **{name: self._seen[name] for name in sorted(self._seen)},
            "answers": {str(status): count for status, count in sorted(self.answers.items())},
        }
        result.require("conflicts", 4 * rounds)
        result.require("of polls", rounds)
        result.require("verdict late", rounds)
        result.require("answers to readers", 20 * rounds)
        return result


_CHANNELS: Final = {META: Channel.WHATSAPP, POLLED: Channel.SMS}
_SHOWN: Final = {"QUEUED": "SENT"}


def _claim(event: StatusObserved) -> model.Claim:
    at = int(event.occurred_at.timestamp() * 1_000_000) if event.occurred_at and event.believed else None
    kind = event.kind.value if event.kind is not None else ""
    reason = event.personal.error_text or ""
    return model.Claim(event.key.hex(), event.claim.value, at, kind, reason, event.closes)


def _exchange(
    connection: http.client.HTTPConnection, telling: Telling, method: str = "POST"
) -> tuple[int, dict[str, Any]]:
    """Send a request; return status and what a JSON answer says. No answer counts as 503: it is sent again."""
    try:
        connection.request(method, telling.path, telling.body or None, telling.headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 503, {}
    is_json = (answer.headers["content-type"] or "").partition(";")[0].endswith("json")
    return answer.status, json.loads(body) if is_json and body else {}


SCENARIO: Final = Scenario(
    "races",
    "32 clients tell the same and contradicting things of the same few messages, over several processes",
    run,
    planted=("forgetful", "last-word-wins"),
)

"""One execution: bytes go through an adapter as far as a request ever goes before it is written.

The law: `authenticate` says yes or no and `parse` says what was told or Malformed, whatever the bytes; what was told
can be named, decided upon and encoded. Any other exception is a finding.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from ledger.domain.events import RegisteredDetails
from ledger.domain.message import Message, Observe, decide, evolve
from ledger.domain.observation import Source
from ledger.ingest.accept import Intake
from ledger.providers import PROVIDERS
from ledger.store.mapper import Entry, state_of
from ledger.store.sealing import DataKey
from ledger.wire import decoding
from ledger.wire.contract import Account, Headers, Known, Malformed, Parsed, Provider, Webhook
from tests.builders import NAMES
from tests.providers.hostile import CONTENT_TYPES, HOSTILE_BODIES, HOSTILE_VALUES
from tests.providers.requests import NOW, header_pairs
from tests.providers.webhook_cases import CASES, Case, all_recorded

Execute = Callable[[bytes], str]

_BODY, _QUERY, _HEADERS, _ANSWER = range(4)
_KEY: Final = DataKey(bytes(32))
_URL: Final = "https://ledger.example.com/hooks/status"


class Unlawful(Exception):
    """An adapter answered with something that is no answer."""


def executions() -> dict[str, Execute]:
    """Return what can be executed: every provider's adapter, and the readers that all of them stand on.

    An input's first byte says which way it comes in, the second one its content type or header; the rest is content.
    An execution returns how it ended.
    """
    found: dict[str, Execute] = {name: _adapter(provider) for name, provider in PROVIDERS.items()}
    return {**found, "wire": _wire}


def _adapter(provider: Provider) -> Execute:
    cases = [case for case in CASES if case.provider is provider]
    account = cases[0].account("secret")
    intake = Intake(account, provider, NAMES, keeps_items=True)
    heads = [_headers_of(case) for case in cases]

    def execute(data: bytes) -> str:
        way, which, content = data[:1] or b"\0", (data[1:2] or b"\0")[0], data[2:]
        match way[0] % 4:
            case way_ if way_ == _HEADERS:
                return _authenticated(provider, account, heads[which % len(heads)], content)
            case way_ if way_ == _ANSWER and provider.polls is not None:
                return _answer(provider, account, intake, content)
            case way_ if way_ == _QUERY:
                webhook = _webhook("GET", content, b"", ())
            case _:
                content_type = CONTENT_TYPES[which % len(CONTENT_TYPES)]
                webhook = _webhook("POST", b"", content, ((b"content-type", content_type),))
        try:
            parsed = provider.parse(webhook, account)
        except Malformed:
            return "malformed"
        return _usable(intake, parsed, webhook)

    return execute


def _headers_of(case: Case) -> list[bytes]:
    request = case.request(case.item("1001", "sent"))
    return [name for name, _ in header_pairs(request)] or [b"content-type"]


def _authenticated(provider: Provider, account: Account, names: list[bytes], content: bytes) -> str:
    """Give each of a provider's headers a line of the content, and the rest as body."""
    values = content.split(b"\n", len(names))
    pairs = tuple(zip(names, values, strict=False))
    body = values[len(names)] if len(values) > len(names) else b""
    webhook = _webhook("POST", body[:64], body, pairs)
    said = provider.authenticate(webhook, account)
    if said not in (True, False):
        raise Unlawful(f"authenticate said {type(said).__name__}")
    if provider.signed_text is not None and not isinstance(provider.signed_text(webhook, account), bytes | None):
        raise Unlawful("signed_text said something else than bytes")
    if provider.asks_again is not None:
        provider.asks_again(webhook, account)
    return "authentic" if said else "unauthentic"


def _answer(provider: Provider, account: Account, intake: Intake, content: bytes) -> str:
    """Read bytes as the provider's answer to a question."""
    polls = provider.polls
    assert polls is not None
    known = Known(provider_message_id="1001", recipient="+15550100", channel=account.channel)
    polls.fault(content)
    try:
        parsed = polls.read(content, known, account)
    except Malformed:
        return "malformed"
    return _usable(intake, parsed, _webhook("POST", b"", content, ()))


def _webhook(method: str, query: bytes, body: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> Webhook:
    url = f"{_URL}?{query.decode('latin-1')}" if query else _URL
    return Webhook(method=method, url=url, query=query, headers=Headers(headers), body=body, received_at=NOW)


def _usable(intake: Intake, parsed: Parsed, webhook: Webhook) -> str:
    """Carry what was read as far as it goes without a database."""
    if not isinstance(parsed, Parsed):
        raise Unlawful(f"parse said {type(parsed).__name__}")
    receipt = intake.receipt(Source.CALLBACK, NOW, webhook.content)
    messages: dict[UUID, Message] = {}
    for observation in parsed.observations[:20]:
        statement = intake.statement(observation, receipt)
        assert isinstance(statement.command, Observe)
        message = messages.get(statement.stream_id, Message())
        for event in decide(message, statement.command):
            state_of(Entry(statement.stream_id, 1, event, _KEY))
            message = evolve(message, event)
        messages[statement.stream_id] = message
    if parsed.observations:
        return "observed"
    return "captured" if parsed.unreadable else "empty"


_read_members = decoding.json_reader(dict[str, Any], "fuzz")
_WIRE: Final[tuple[Callable[[bytes], object], ...]] = (
    _read_members,
    decoding.json_reader(list[Any], "fuzz"),
    decoding.lenient_reader(RegisteredDetails, "fuzz"),
)


def _wire(data: bytes) -> str:
    """Give bytes to the readers that adapters stand on."""
    which = (data[:1] or b"\0")[0] % len(_WIRE)
    try:
        _WIRE[which](data[1:])
    except Malformed:
        return "malformed"
    return "read"


def corpus(name: str) -> list[bytes]:
    """Return what a fuzzer begins with: everything recorded and made up of a provider, and what is hostile to all.

    What can be understood is in it several times: of most that is hostile nothing is left to be understood.
    """
    if name == "wire":
        return [bytes([which]) + content for which in range(len(_WIRE)) for content in _hostile()]
    kinds: Mapping[bytes, int] = {content_type: index for index, content_type in enumerate(CONTENT_TYPES)}
    found: list[bytes] = []
    for _, payload in all_recorded("webhook"):
        if payload["provider"] == name:
            form = "form" in payload["headers"].get("content-type", payload["headers"].get("Content-Type", ""))
            which = kinds[b"application/x-www-form-urlencoded" if form else b"application/json"]
            found.append(bytes([_BODY, which]) + payload["body"].encode())
            found.append(bytes([_ANSWER, 0]) + payload["body"].encode())
    for case in (each for each in CASES if each.provider.name == name):
        for word in ("sent", "delivered", "failed", "read"):
            request = case.request(case.item("1001", word))
            content_type = request.headers.first("content-type") or b"application/json"
            head = bytes([_QUERY if request.method == "GET" else _BODY, kinds.get(content_type, 0)])
            found.append(head + request.content)
            values = [value for _, value in header_pairs(request)]
            found.append(bytes([_HEADERS, 0]) + b"\n".join([*values, request.body]))
    return found * 4 + [bytes([_BODY, 0]) + content for content in _hostile()]


def _hostile() -> list[bytes]:
    return [each for each in (*HOSTILE_BODIES.values(), *HOSTILE_VALUES.values()) if len(each) < 4_096]


def words(name: str) -> list[bytes]:
    """Return what is worth inserting: a provider's words and members, and tokens that break readers."""
    tokens = {
        b"null",
        b"1e999",
        b"NaN",
        b'"\\ud800"',
        b"\\u0000",
        b"[[[[[[[[",
        b'{"',
        b"%00",
        b"\xff",
        b"&",
        b"9" * 400,
    }
    if name in PROVIDERS:
        tokens.update(word.encode() for word in PROVIDERS[name].claims)
    return sorted(tokens)


def tally(executed: Mapping[str, Counter[str]]) -> int:
    return sum(sum(ends.values()) for ends in executed.values())

"""What the conformance suite needs to know about each provider: recorded payloads, and how to make and sign requests.

A `Case` builds requests the way a provider does. It signs with its own few lines of standard library, so that a mistake
in the adapter's signature code is not repeated here.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from ledger.providers import PROVIDERS
from ledger.wire.contract import Account, Headers, Malformed, Parsed, Provider, Secret, Webhook

PAYLOADS = Path(__file__).parent / "payloads"
BASE_URL = "https://ledger.example.com/hooks/status"

Item = dict[str, Any]


# Requests -------------------------------------------------------------------------------------------------------------


def an_account(provider: str, *secrets: str | bytes, **settings: Any) -> Account:
    channel = sorted(PROVIDERS[provider].channels)[0]
    chosen = {"name": f"{provider}-main", "channel": channel, "public_url": BASE_URL, **settings}
    return Account(provider=provider, secrets=tuple(Secret(secret) for secret in secrets), **chosen)


def a_webhook(
    body: bytes = b"",
    headers: dict[str, str] | Sequence[tuple[str, bytes]] = (),
    url: str = BASE_URL,
    method: str = "POST",
) -> Webhook:
    pairs = (
        [(name, value.encode("latin-1")) for name, value in headers.items()] if isinstance(headers, dict) else headers
    )
    raw = [(name.lower().encode(), value) for name, value in pairs]
    query = url.partition("#")[0].partition("?")[2]
    return Webhook(method=method, url=url, query=query.encode("latin-1"), headers=Headers(raw), body=body)


def outcome(provider: Provider, webhook: Webhook) -> Parsed | Malformed:
    """Parse, with `Malformed` as a value; any other exception is the failure that a test looks for."""
    try:
        return provider.parse(webhook, an_account(provider.name, "any"))
    except Malformed as problem:
        return problem


# Recorded payloads ----------------------------------------------------------------------------------------------------


def recorded(provider: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and content of a provider's recorded payloads of one kind."""
    files = sorted((PAYLOADS / provider).glob("*.json"))
    payloads = [(f"{provider}/{file.stem}", json.loads(file.read_text("utf-8"))) for file in files]
    return [(name, payload) for name, payload in payloads if payload["kind"] == kind]


def all_recorded(kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [each for provider in PROVIDERS for each in recorded(provider, kind)]


def as_webhook(payload: dict[str, Any]) -> Webhook:
    return a_webhook(payload["body"].encode(), payload["headers"], payload["url"], payload["method"])


# Cases ----------------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    provider: Provider
    sign: Callable[[bytes, bytes], Webhook]  #: body and secret to an authentic request
    wrap: Callable[[Iterable[bytes]], bytes]  #: items to a body
    item: Callable[[str, str], Item]  #: message id and status word to a full item
    id_path: tuple[str, ...]  #: where an item holds the message id
    status_path: tuple[str, ...]
    signature_header: str
    encode: Callable[[Item], bytes] = lambda item: json.dumps(item).encode()
    is_batch: bool = True

    def request(self, *items: Item | bytes, secret: bytes = b"secret") -> Webhook:
        encoded = [item if isinstance(item, bytes) else self.encode(item) for item in items]
        return self.sign(self.wrap(encoded), secret)

    def parse(self, *items: Item | bytes) -> Parsed:
        return self.provider.parse(self.request(*items), an_account(self.provider.name, "secret"))


def without(item: Item, path: Sequence[str]) -> Item:
    """Return the item less the member at a path."""
    head, *rest = path
    if not rest:
        return {name: value for name, value in item.items() if name != head}
    return {**item, head: without(item[head], rest)}


def with_value(item: Item, path: Sequence[str], value: object) -> Item:
    """Return the item with another value at a path."""
    head, *rest = path
    return {**item, head: with_value(item[head], rest, value) if rest else value}


def paths(item: Item) -> list[tuple[str, ...]]:
    """List the paths of all members of nested objects, outer ones included."""
    found: list[tuple[str, ...]] = []
    for name, value in item.items():
        found.append((name,))
        found += [(name, *rest) for rest in paths(value)] if isinstance(value, dict) else []
    return found


def _hex(secret: bytes, message: bytes) -> str:
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def _twilio(secret: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.new(secret, message, hashlib.sha1).digest()).decode()


def sign_meta(body: bytes, secret: bytes) -> Webhook:
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={_hex(secret, body)}"}
    return a_webhook(body, headers)


def sign_viber(body: bytes, secret: bytes) -> Webhook:
    headers = {"Content-Type": "application/json", "X-Viber-Content-Signature": _hex(secret, body)}
    return a_webhook(body, headers)


def sign_twilio_events(body: bytes, secret: bytes, url: str = BASE_URL) -> Webhook:
    signed = f"{url}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    headers = {"Content-Type": "application/json", "X-Twilio-Signature": _twilio(secret, signed.encode())}
    return a_webhook(body, headers, signed)


def sign_twilio_form(body: bytes, secret: bytes, url: str = BASE_URL, signed_url: str | None = None) -> Webhook:
    """Sign a form. Latin-1 carries any byte through text unharmed."""
    fields = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    message = (signed_url or url).encode() + "".join(f"{n}{v}" for n, v in sorted(set(fields))).encode("latin-1")
    headers = {
        "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
        "X-Twilio-Signature": _twilio(secret, message),
    }
    return a_webhook(body, headers, url)


def meta_status(wamid: str = "wamid.A", status: str = "delivered") -> Item:
    return {
        "id": wamid,
        "status": status,
        "timestamp": "1792065607",
        "recipient_id": "12025550112",
        "recipient_user_id": "US.9001",
        "biz_opaque_callback_data": "order-42",
        "pricing": {"billable": False, "category": "utility"},
        "errors": [{"code": 131026, "title": "T", "message": "M", "error_data": {"details": "D"}}],
    }


def wrap_meta(items: Iterable[bytes]) -> bytes:
    value = b'{"metadata":{"phone_number_id":"2001"},"statuses":[' + b",".join(items) + b"]}"
    return (
        b'{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"value":%s,"field":"messages"}]}]}'
        % value
    )


def twilio_event(sid: str = "SM1", status: str = "DELIVERED") -> Item:
    return {
        "specversion": "1.0",
        "type": "com.twilio.messaging.message.delivered",
        "id": "EZ1",
        "time": "2026-10-15T12:04:31.512Z",
        "data": {
            "messageSid": sid,
            "messageStatus": status,
            "timestamp": "2026-10-15T12:04:31.512Z",
            "accountSid": "AC1",
            "from": "+12025550100",
            "to": "whatsapp:+12025550128",
            "errorCode": 30005,
            "rawDlrDoneDate": "2610151204",
        },
    }


def twilio_form(sid: str = "SM1", status: str = "delivered") -> Item:
    return {
        "MessageSid": sid,
        "MessageStatus": status,
        "AccountSid": "AC1",
        "From": "whatsapp:+12025550100",
        "To": "whatsapp:+12025550128",
        "ChannelPrefix": "whatsapp",
        "ErrorCode": "63016",
        "ChannelStatusMessage": "outside the window & closed",
        "RawDlrDoneDate": "2610151204",
    }


def encode_form(item: Item) -> bytes:
    """Encode a form; a form has no null, blank is the nearest."""
    return urlencode({name: "" if value is None else value for name, value in item.items()}).encode()


def viber_callback(message_id: str = "5741311803571721001", event: str = "delivered") -> Item:
    return {
        "event": event,
        "timestamp": 1792065601250,
        "message_token": int(message_id),
        "user_id": "user==",
        "desc": "refused",
        "error_code": 7,
    }


CASES = [
    Case(
        "meta",
        PROVIDERS["meta"],
        sign_meta,
        wrap_meta,
        meta_status,
        ("id",),
        ("status",),
        "x-hub-signature-256",
    ),
    Case(
        "twilio event stream",
        PROVIDERS["twilio"],
        sign_twilio_events,
        lambda items: b"[" + b",".join(items) + b"]",
        twilio_event,
        ("data", "messageSid"),
        ("data", "messageStatus"),
        "x-twilio-signature",
    ),
    Case(
        "twilio callback",
        PROVIDERS["twilio"],
        sign_twilio_form,
        b"".join,
        twilio_form,
        ("MessageSid",),
        ("MessageStatus",),
        "x-twilio-signature",
        encode_form,
        is_batch=False,
    ),
    Case(
        "viber",
        PROVIDERS["viber"],
        sign_viber,
        b"".join,
        viber_callback,
        ("message_token",),
        ("event",),
        "x-viber-content-signature",
        is_batch=False,
    ),
]

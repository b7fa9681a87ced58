"""What the conformance suite needs to know about each provider: recorded payloads, and how to make and sign requests.

A `Case` builds requests the way a provider does. It signs with its own few lines of standard library, so that a mistake
in the adapter's signature code is not repeated here.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ledger.providers import PROVIDERS
from ledger.wire.contract import Account, Parsed, Provider, Webhook
from tests.providers import senders_more as more
from tests.providers.requests import BASE_URL, NOW, Item, Told, a_webhook, an_account, header_pairs, outcome
from tests.providers.senders import (
    encode_form,
    meta_status,
    sign_meta,
    sign_twilio_events,
    sign_twilio_form,
    sign_viber,
    twilio_event,
    twilio_form,
    viber_callback,
    wrap_meta,
)

__all__ = [
    "BASE_URL",
    "CASES",
    "PAYLOADS",
    "Case",
    "Item",
    "a_webhook",
    "all_recorded",
    "an_account",
    "as_webhook",
    "encode_form",
    "meta_status",
    "outcome",
    "paths",
    "recorded",
    "recorded_account",
    "sign_meta",
    "sign_twilio_events",
    "sign_twilio_form",
    "sign_viber",
    "twilio_event",
    "twilio_form",
    "viber_callback",
    "with_value",
    "without",
    "wrap_meta",
]

PAYLOADS = Path(__file__).parent / "payloads"

Place = tuple[str | int, ...]


# Recorded payloads ----------------------------------------------------------------------------------------------------


def recorded(provider: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and content of a provider's recorded payloads of one kind."""
    files = sorted((PAYLOADS / provider).glob("*.json"))
    payloads = [(f"{provider}/{file.stem}", json.loads(file.read_text("utf-8"))) for file in files]
    return [(name, payload) for name, payload in payloads if payload["kind"] == kind]


def all_recorded(kind: str) -> list[tuple[str, dict[str, Any]]]:
    return [each for provider in PROVIDERS for each in recorded(provider, kind)]


def as_webhook(payload: dict[str, Any]) -> Webhook:
    """Return a recorded request, received when it was recorded."""
    now = payload.get("verify", {}).get("now")
    received_at = datetime.fromisoformat(now) if now else NOW
    return a_webhook(payload["body"].encode(), payload["headers"], payload["url"], payload["method"], received_at)


def recorded_account(payload: dict[str, Any], *secrets: str) -> Account:
    """Return the account that a request was recorded for, with its own secret unless others are given."""
    return an_account(payload["provider"], *(secrets or (payload["secret"],)), options=payload.get("options"))


# Cases ----------------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    name: str
    provider: Provider
    sign: Callable[[bytes, bytes], Webhook]  #: content and label of a secret to an authentic request
    wrap: Callable[[Iterable[bytes]], bytes]  #: items to what is signed
    item: Callable[[str, str], Item]  #: message id and status word to a full item
    id_path: Place  #: where an item holds the message id
    status_path: Place
    signature_header: str = ""  #: empty where the signature is no header of its own
    encode: Callable[[Item], bytes] = lambda item: json.dumps(item).encode()
    is_batch: bool = True
    required: frozenset[Place] = frozenset()  #: what else an item cannot do without
    configured: Callable[[bytes], bytes] = lambda label: label  #: label of a secret to what an account is given
    options: dict[str, Any] | None = None
    covers: str = "all"  #: what the signature covers: "all", "fields" chosen by the provider, or "nothing"
    scheme: str = ""  #: cases of one scheme accept each other's signatures
    resigned: more.Resign | None = None  #: puts other signatures in the place of a request's own
    keeps_request: bool = False  #: the evidence is all of the request and not only the item
    either_case: bool = False  #: the signature may be written in capitals
    zoneless_is_utc: bool = False

    def account(self, *labels: str | bytes) -> Account:
        """Return an account that knows the secrets of these labels."""
        known = [label.encode() if isinstance(label, str) else label for label in labels]
        return an_account(self.provider.name, *map(self.configured, known), options=self.options)

    def request(self, *items: Item | bytes, secret: bytes = b"secret") -> Webhook:
        encoded = [item if isinstance(item, bytes) else self.encode(item) for item in items]
        return self.sign(self.wrap(encoded), secret)

    def parse(self, *items: Item | bytes) -> Parsed:
        return self.provider.parse(self.request(*items), self.account("secret"))

    def outcome(self, request: Webhook) -> object:
        return outcome(self.provider, request, self.account("secret"))

    def signature(self, request: Webhook) -> bytes:
        """Return the signature of a request, wherever it is."""
        if self.signature_header:
            return request.headers.first(self.signature_header) or b""
        if self.resigned is more.resign_receipt:
            return request.body.rpartition(b"&sig=")[2]
        if self.resigned is more.resign_token:
            return (request.parameter("token") or "").encode()
        return str(json.loads(request.body)["Signature"]).encode()

    def resign(self, request: Webhook, *signatures: bytes) -> Webhook:
        """Return the request with other signatures: none, one or several."""
        if self.resigned is not None:
            return self.resigned(request, signatures)
        header = self.signature_header.encode()
        kept = [(name, value) for name, value in header_pairs(request) if name != header]
        return msgspec.structs.replace(request, headers=Told([*kept, *((header, value) for value in signatures)]))

    def altered(self, request: Webhook, content: bytes) -> Webhook:
        """Return the request with other content under the same signature."""
        if request.method != "GET":
            return msgspec.structs.replace(request, body=content)
        url = f"{request.url.partition('?')[0]}?{content.decode('latin-1')}"
        return msgspec.structs.replace(request, query=content, url=url)

    def evidence(self, item: Item | bytes) -> bytes:
        """Return what is kept of an item."""
        encoded = item if isinstance(item, bytes) else self.encode(item)
        return self.request(encoded).content if self.keeps_request else encoded

    def optional(self, item: Item) -> list[Place]:
        """List the paths of an item that may be missing or odd without harm."""
        needed = {self.id_path, self.status_path, *self.required}
        needed |= {path[:length] for path in needed for length in range(1, len(path))}
        return [path for path in paths(item) if path not in needed]


def without(item: Any, path: Sequence[str | int]) -> Any:
    """Return the item less the member at a path."""
    head, *rest = path
    if rest:
        return with_value(item, (head,), without(item[head], rest))
    return {name: value for name, value in item.items() if name != head}


def with_value(item: Any, path: Sequence[str | int], value: object) -> Any:
    """Return the item with another value at a path."""
    head, *rest = path
    inner = with_value(item[head], rest, value) if rest else value
    if isinstance(item, list):
        return [inner if index == head else each for index, each in enumerate(item)]
    return {**item, head: inner}


def paths(item: Any) -> list[Place]:
    """List the paths of all members of nested objects, outer ones included."""
    found: list[Place] = []
    for name, value in item.items():
        found.append((name,))
        found += [(name, *rest) for rest in paths(value)] if isinstance(value, dict) else []
    return found


def _alone(items: Iterable[bytes]) -> bytes:
    return b"".join(items)


def _listed(items: Iterable[bytes]) -> bytes:
    return b'{"reports":[' + b",".join(items) + b"]}"


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
        _alone,
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
        _alone,
        viber_callback,
        ("message_token",),
        ("event",),
        "x-viber-content-signature",
        is_batch=False,
    ),
    Case(
        "vonage message",
        PROVIDERS["vonage"],
        more.sign_vonage,
        _alone,
        more.vonage_message,
        ("message_uuid",),
        ("status",),
        "authorization",
        is_batch=False,
    ),
    Case(
        "vonage receipt",
        PROVIDERS["vonage"],
        more.sign_vonage_receipt,
        _alone,
        more.vonage_receipt,
        ("messageId",),
        ("status",),
        encode=encode_form,
        is_batch=False,
        resigned=more.resign_receipt,
        keeps_request=True,
        either_case=True,
        zoneless_is_utc=True,
    ),
    Case(
        "infobip",
        PROVIDERS["infobip"],
        more.send_infobip,
        more.wrap_infobip,
        more.infobip_report,
        ("messageId",),
        ("status", "name"),
        "authorization",
        required=frozenset({("status", "groupName")}),
        configured=more.configured_password,
        covers="nothing",
    ),
    Case(
        "sinch message",
        PROVIDERS["sinch"],
        more.sign_sinch,
        _alone,
        more.sinch_message,
        ("message_delivery_report", "message_id"),
        ("message_delivery_report", "status"),
        "x-sinch-webhook-signature",
        is_batch=False,
        zoneless_is_utc=True,
    ),
    Case(
        "sinch sms",
        PROVIDERS["sinch"],
        more.sign_sinch,
        _alone,
        more.sinch_recipient,
        ("batch_id",),
        ("status",),
        "x-sinch-webhook-signature",
        is_batch=False,
        required=frozenset({("recipient",)}),
        zoneless_is_utc=True,
    ),
    Case(
        "telnyx",
        PROVIDERS["telnyx"],
        more.sign_telnyx,
        _alone,
        more.telnyx_event,
        ("data", "payload", "id"),
        ("data", "payload", "to", 0, "status"),
        "telnyx-signature-ed25519",
        is_batch=False,
        configured=more.configured_ed25519,
    ),
    Case(
        "messagebird sms",
        PROVIDERS["messagebird"],
        more.sign_messagebird,
        _alone,
        more.messagebird_report,
        ("id",),
        ("status",),
        "messagebird-signature-jwt",
        encode_form,
        is_batch=False,
        required=frozenset({("recipient",)}),
    ),
    Case(
        "bird channels",
        PROVIDERS["messagebird"],
        more.sign_bird,
        _alone,
        more.bird_event,
        ("payload", "id"),
        ("payload", "status"),
        "messagebird-signature",
        is_batch=False,
    ),
    Case(
        "plivo",
        PROVIDERS["plivo"],
        more.sign_plivo,
        _alone,
        more.plivo_callback,
        ("MessageUUID",),
        ("Status",),
        "x-plivo-signature-v3",
        encode_form,
        is_batch=False,
        zoneless_is_utc=True,
    ),
    Case(
        "aws",
        PROVIDERS["aws"],
        more.sign_aws,
        _alone,
        more.aws_event,
        ("messageId",),
        ("eventType",),
        is_batch=False,
        configured=more.configured_certificate,
        covers="fields",
        resigned=more.resign_sns,
    ),
    Case(
        "dialog360",
        PROVIDERS["dialog360"],
        more.send_dialog360,
        wrap_meta,
        meta_status,
        ("id",),
        ("status",),
        "x-webhook-secret",
        covers="nothing",
    ),
    Case(
        "gupshup v2",
        PROVIDERS["gupshup"],
        more.send_with_token,
        _alone,
        more.gupshup_event,
        ("payload", "id"),
        ("payload", "type"),
        is_batch=False,
        covers="nothing",
        scheme="token",
        resigned=more.resign_token,
    ),
    Case(
        "gupshup v3",
        PROVIDERS["gupshup"],
        more.send_with_token,
        wrap_meta,
        more.gupshup_status,
        ("id",),
        ("status",),
        required=frozenset({("gs_id",)}),  # it would be the id
        covers="nothing",
        scheme="token",
        resigned=more.resign_token,
    ),
    Case(
        "routemobile",
        PROVIDERS["routemobile"],
        more.send_with_token,
        _alone,
        more.routemobile_report,
        ("request_id",),
        ("message_status",),
        is_batch=False,
        covers="nothing",
        scheme="token",
        resigned=more.resign_token,
    ),
    Case(
        "standardwebhooks v1",
        PROVIDERS["standardwebhooks"],
        more.sign_standard,
        _alone,
        more.standard_report,
        ("data", "message_id"),
        ("data", "status"),
        "webhook-signature",
        is_batch=False,
        configured=more.configured_whsec,
    ),
    Case(
        "standardwebhooks v1a, listed",
        PROVIDERS["standardwebhooks"],
        more.sign_standard_v1a,
        _listed,
        more.standard_report,
        ("data", "message_id"),
        ("data", "status"),
        "webhook-signature",
        configured=more.configured_whpk,
        options={"items": "reports", "fields": {"occurred_at": "timestamp"}},
    ),
]

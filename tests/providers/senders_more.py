"""Makes and signs requests as the other providers do. A secret is a label here: `configured_*` turns it into what an
account is configured with, the signing functions into what the provider signs with.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ledger.wire.contract import Webhook
from tests.providers.requests import BASE_URL, NOW, TOPIC, Item, a_webhook
from tests.providers.senders import meta_status

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
SECONDS = int(NOW.timestamp())


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _hmac(secret: bytes, message: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(secret, message, algorithm).digest()


def a_token(secret: bytes, claims: dict[str, Any], algorithm: str = "HS256", **header: Any) -> str:
    """Sign a token with a shared secret."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()

    head = f"{part({'alg': algorithm, 'typ': 'JWT', **header})}.{part(claims)}"
    digest = _hmac(secret, head.encode(), f"sha{algorithm[2:]}")
    return f"{head}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


# Vonage ---------------------------------------------------------------------------------------------------------------


def sign_vonage(body: bytes, secret: bytes, at: int = SECONDS, **claims: Any) -> Webhook:
    told = {"iat": at, "jti": "1", "iss": "Vonage", "payload_hash": hashlib.sha256(body).hexdigest(), "api_key": "k"}
    return a_webhook(body, {**JSON, "Authorization": f"Bearer {a_token(secret, told | claims)}"})


def vonage_message(uuid: str = "uuid-1", status: str = "delivered") -> Item:
    return {
        "message_uuid": uuid,
        "to": "447700900123",
        "from": "447700900001",
        "timestamp": "2026-10-15T12:00:01.250Z",
        "status": status,
        "channel": "whatsapp",
        "client_ref": "order-42",
        "error": {"type": "https://developer.vonage.com/api-errors/messages#1180", "title": 1180, "detail": "Absent"},
        "usage": {"currency": "EUR", "price": "0.0333"},
        "whatsapp": {"recipient": {"user_id": "GB.1"}},
    }


def vonage_text(pairs: Iterable[tuple[str, str]]) -> bytes:
    replaced = [(name, value.replace("&", "_").replace("=", "_")) for name, value in sorted(pairs)]
    return "".join(f"&{name}={value}" for name, value in replaced).encode("latin-1")


def sign_vonage_receipt(body: bytes, secret: bytes, at: int = SECONDS, method: str = "sha256") -> Webhook:
    """Sign a form. Latin-1 carries any byte through text unharmed."""
    body += f"&timestamp={at}&nonce=n".encode()
    text = vonage_text(parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1"))
    if method == "md5hash":
        digest = hashlib.md5(text + secret, usedforsecurity=False).hexdigest()
    else:
        digest = _hmac(secret, text, method).hex()
    return a_webhook(body + f"&sig={digest.upper()}".encode(), FORM)


def vonage_receipt(message_id: str = "0A01", status: str = "delivered") -> Item:
    return {
        "msisdn": "447700900123",
        "to": "Acme",
        "network-code": "23410",
        "messageId": message_id,
        "price": "0.0333",
        "status": status,
        "scts": "2610151200",
        "err-code": "3",
        "api-key": "abcd1234",
        "client-ref": "order 42 & more",
        "message-timestamp": "2026-10-15 12:00:05",
    }


# Infobip, 360dialog, Gupshup, Route Mobile: nothing is signed ---------------------------------------------------------


def configured_password(label: bytes) -> bytes:
    return b"hook:" + label


def send_infobip(body: bytes, secret: bytes) -> Webhook:
    return a_webhook(body, {**JSON, "Authorization": f"Basic {_base64(configured_password(secret))}"})


def infobip_report(message_id: str = "ib-1", status: str = "DELIVERED_TO_HANDSET") -> Item:
    return {
        "bulkId": "bulk-1",
        "messageId": message_id,
        "to": "447700900123",
        "sender": "Acme",
        "sentAt": "2026-10-15T12:00:00.000+0000",
        "doneAt": "2026-10-15T13:00:01.250+0100",
        "channel": "VIBER_BM",
        "callbackData": "order-42",
        "platform": {"entityId": "acme", "applicationId": "ledger"},
        "price": {"pricePerMessage": 0.01, "currency": "EUR"},
        "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": status, "description": "d"},
        "error": {"groupId": 1, "id": 27, "name": "EC_ABSENT_SUBSCRIBER", "description": "Absent", "permanent": False},
    }


def wrap_infobip(items: Iterable[bytes]) -> bytes:
    return b'{"results":[' + b",".join(items) + b"]}"


def send_dialog360(body: bytes, secret: bytes) -> Webhook:
    return a_webhook(body, {**JSON, "X-Webhook-Secret": secret.decode()})


def send_with_token(body: bytes, secret: bytes) -> Webhook:
    return a_webhook(body, JSON, f"{BASE_URL}?{urlencode({'token': secret})}")


def gupshup_event(message_id: str = "gs-1", status: str = "delivered") -> Item:
    return {
        "app": "DemoAPI",
        "timestamp": 1792065601250,
        "version": 2,
        "type": "message-event",
        "payload": {
            "id": message_id,
            "type": status,
            "destination": "447700900123",
            "payload": {"ts": 1792065601, "code": 1002, "reason": "r"},
        },
    }


def gupshup_status(wamid: str = "wamid.A", status: str = "delivered") -> Item:
    return {**meta_status(wamid, status), "gs_id": None}


def routemobile_report(request_id: str = "rm-1", status: str = "delivered") -> Item:
    return {
        "message_status": status,
        "message_time": 1792065606000,
        "phone_number": "12025550154",
        "service_type": "dlr",
        "request_id": request_id,
        "error_code": 7,
        "session_id": None,
    }


# Standard Webhooks ----------------------------------------------------------------------------------------------------


def configured_whsec(label: bytes) -> bytes:
    return b"whsec_" + base64.b64encode(hashlib.sha256(label).digest())


def sign_standard(
    body: bytes, secret: bytes, at: int = SECONDS, name: str = "msg_1", prefix: str = "webhook"
) -> Webhook:
    key = hashlib.sha256(secret).digest()
    signature = _base64(_hmac(key, f"{name}.{at}.".encode() + body))
    return a_webhook(body, standard_headers(name, at, f"v1,{signature}", prefix))


def standard_headers(name: str, at: int, signature: str, prefix: str = "webhook") -> dict[str, str]:
    told = {"id": name, "timestamp": str(at), "signature": signature}
    return {**JSON, **{f"{prefix}-{header}": value for header, value in told.items()}}


def configured_whpk(label: bytes) -> bytes:
    return b"whpk_" + base64.b64encode(_public(label))


def sign_standard_v1a(body: bytes, secret: bytes, at: int = SECONDS, name: str = "msg_1") -> Webhook:
    signature = _base64(_private(secret).sign(f"{name}.{at}.".encode() + body))
    return a_webhook(body, standard_headers(name, at, f"v1a,{signature}"))


def standard_report(message_id: str = "gen-1", status: str = "delivered") -> Item:
    return {
        "type": "message.delivered",
        "timestamp": "2026-10-15T12:00:01.250Z",
        "data": {
            "message_id": message_id,
            "to": "+447700900123",
            "status": status,
            "channel": "sms",
            "client_reference": "order-42",
            "error": {"code": "carrier_rejected", "message": "rejected"},
        },
    }


# Sinch ----------------------------------------------------------------------------------------------------------------


def sign_sinch(
    body: bytes, secret: bytes, at: int | str = SECONDS, nonce: str = "01FJA8B4A7BM43YGWSG9GBV067"
) -> Webhook:
    headers = {
        **JSON,
        "x-sinch-webhook-signature": _base64(_hmac(secret, body + f".{nonce}.{at}".encode())),
        "x-sinch-webhook-signature-nonce": nonce,
        "x-sinch-webhook-signature-timestamp": str(at),
        "x-sinch-webhook-signature-algorithm": "HmacSHA256",
    }
    return a_webhook(body, headers)


def sinch_message(message_id: str = "01H2", status: str = "DELIVERED") -> Item:
    return {
        "app_id": "01APP",
        "project_id": "p",
        "accepted_time": "2026-10-15T12:00:00.123456789Z",
        "event_time": "2026-10-15T12:00:01.250Z",
        "correlation_id": "order-42",
        "message_metadata": "",
        "message_delivery_report": {
            "message_id": message_id,
            "conversation_id": "c",
            "status": status,
            "channel_identity": {"channel": "VIBERBM", "identity": "447700900123", "app_id": ""},
            "contact_id": "c",
            "reason": {"code": "RECIPIENT_NOT_REACHABLE", "description": "d", "sub_code": "UNSPECIFIED_SUB_CODE"},
            "metadata": "m",
        },
    }


def sinch_recipient(batch_id: str = "01FC", status: str = "Delivered") -> Item:
    return {
        "at": "2026-10-15T12:00:01.250Z",
        "batch_id": batch_id,
        "client_reference": "order-42",
        "code": 402,
        "operator_status_at": "2026-10-15T12:00:00Z",
        "recipient": "447700900123",
        "status": status,
        "type": "recipient_delivery_report_sms",
    }


# Telnyx ---------------------------------------------------------------------------------------------------------------


@cache
def _private(label: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(label).digest())


def _public(label: bytes) -> bytes:
    return _private(label).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def configured_ed25519(label: bytes) -> bytes:
    return base64.b64encode(_public(label))


def sign_telnyx(body: bytes, secret: bytes, at: int = SECONDS) -> Webhook:
    signature = _base64(_private(secret).sign(f"{at}|".encode() + body))
    return a_webhook(body, {**JSON, "telnyx-signature-ed25519": signature, "telnyx-timestamp": str(at)})


def telnyx_event(message_id: str = "40385f64", status: str = "delivered", *more: tuple[str, str]) -> Item:
    """Return an event about one recipient, and about more of them in a group."""
    recipients = [("+15555550101", status), *more]
    return {
        "data": {
            "record_type": "event",
            "id": "86f58db9",
            "event_type": "message.finalized",
            "occurred_at": "2026-10-15T12:00:01.250+00:00",
            "payload": {
                "direction": "outbound",
                "id": message_id,
                "type": "MMS" if more else "SMS",
                "messaging_profile_id": "4000eba1",
                "to": [{"phone_number": number, "status": word, "carrier": "T"} for number, word in recipients],
                "tags": ["order-42"],
                "parts": 1,
                "errors": [{"code": "40002", "title": "Blocked", "detail": "d"}],
            },
        },
        "meta": {"attempt": 1},
    }


# Plivo ----------------------------------------------------------------------------------------------------------------


def plivo_text(url: str, body: bytes, nonce: str) -> bytes:
    """Return what version 3 signs of a POST."""
    address, _, query = url.partition("?")
    asked = sorted(parse_qsl(query, keep_blank_values=True, encoding="latin-1"))
    told = sorted(parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1"))
    text = f"{address}?" if asked or told else address
    text += "&".join(f"{name}={value}" for name, value in asked) + ("." if asked and told else "")
    return (text + "".join(f"{name}{value}" for name, value in told) + f".{nonce}").encode("latin-1")


def sign_plivo(body: bytes, secret: bytes, url: str = BASE_URL, nonce: str = "12345") -> Webhook:
    signature = _base64(_hmac(secret, plivo_text(url, body, nonce)))
    return a_webhook(body, {**FORM, "X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}, url)


def plivo_callback(uuid: str = "7b1b", status: str = "delivered") -> Item:
    return {
        "MessageUUID": uuid,
        "PartInfo": "1 of 1",
        "To": "447700900123",
        "From": "447700900001",
        "Type": "sms",
        "Status": status,
        "ErrorCode": "30",
        "Sequence": "3",
        "QueuedTime": "2026-10-15 12:00:00.100000",
        "SentTime": "2026-10-15 12:00:00.400000",
        "DeliveryReportTime": "2026-10-15 12:00:01.250000",
    }


# MessageBird ----------------------------------------------------------------------------------------------------------


def sign_messagebird(
    query: bytes, secret: bytes, at: int = SECONDS, algorithm: str = "HS256", **claims: Any
) -> Webhook:
    """Sign a report by GET with a token that names the digest of the whole URL."""
    url = f"{BASE_URL}?{query.decode('latin-1')}"
    digest = hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()
    told = {"iss": "MessageBird", "nbf": at - 1, "exp": at + 60, "jti": "1", "url_hash": digest}
    headers = {"MessageBird-Signature-JWT": a_token(secret, told | claims, algorithm)}
    return a_webhook(b"", headers, url, "GET")


def messagebird_report(message_id: str = "b6aa", status: str = "delivered") -> Item:
    return {
        "id": message_id,
        "recipient": "447700900123",
        "reference": "order-42",
        "status": status,
        "statusDatetime": "2026-10-15T12:00:01+00:00",
        "statusErrorCode": "103",
        "statusReason": "opted out",
        "price[amount]": "0.030",
    }


def sign_bird(body: bytes, secret: bytes, at: int = SECONDS) -> Webhook:
    text = f"{at}\n{BASE_URL}\n".encode() + hashlib.sha256(body).digest()
    headers = {"MessageBird-Signature": _base64(_hmac(secret, text)), "MessageBird-Request-Timestamp": str(at)}
    return a_webhook(body, {**JSON, **headers})


def bird_event(message_id: str = "9c1f", status: str = "delivered") -> Item:
    return {
        "service": "channels",
        "event": "viber.outbound",
        "payload": {
            "id": message_id,
            "channelId": "5b2d",
            "receiver": {"contacts": [{"identifierKey": "phonenumber", "identifierValue": "+447700900123"}]},
            "reference": "order-42",
            "status": status,
            "reason": "r",
            "lastStatusAt": "2026-10-15T12:00:01.250Z",
            "error": {"code": "recipient_unreachable", "description": "d"},
        },
    }


# AWS ------------------------------------------------------------------------------------------------------------------

CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123456789abcdef.pem"


@cache
def _rsa(label: bytes) -> RSAPrivateKey:
    return generate_private_key(65_537, 2_048)


@cache
def configured_certificate(label: bytes) -> bytes:
    key, name = _rsa(label), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made up for tests")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2036, 1, 1, tzinfo=UTC)
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def sns_text(told: dict[str, str]) -> bytes:
    confirms = told["Type"] != "Notification"
    names = ("Message", "MessageId", "SubscribeURL" if confirms else "Subject", "Timestamp")
    names += ("Token", "TopicArn", "Type") if confirms else ("TopicArn", "Type")
    return "".join(f"{name}\n{told[name]}\n" for name in names if name in told).encode("utf-8", "replace")


def sns_envelope(message: bytes, **changed: str) -> dict[str, str]:
    return {
        "Type": "Notification",
        "MessageId": "22b80b92",
        "TopicArn": TOPIC,
        "Message": message.decode("utf-8", "replace"),
        "Timestamp": "2026-10-15T12:00:02.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE_URL,
        **changed,
    }


def sign_sns(told: dict[str, str], secret: bytes) -> Webhook:
    digest = SHA1() if told["SignatureVersion"] == "1" else SHA256()  # noqa: S303  # what the provider offers
    signature = _base64(_rsa(secret).sign(sns_text(told), PKCS1v15(), digest))
    return a_webhook(
        json.dumps({**told, "Signature": signature}).encode(), {"Content-Type": "text/plain; charset=UTF-8"}
    )


def sign_aws(message: bytes, secret: bytes) -> Webhook:
    return sign_sns(sns_envelope(message), secret)


def aws_event(message_id: str = "0a1b", status: str = "TEXT_DELIVERED") -> Item:
    return {
        "eventType": status,
        "eventVersion": "1.0",
        "eventTimestamp": 1792065601250,
        "isFinal": True,
        "destinationPhoneNumber": "+447700900123",
        "messageId": message_id,
        "messageStatus": "CARRIER_BLOCKED",
        "messageStatusDescription": "d",
        "context": {"order": "order-42"},
    }


# Replacing signatures -------------------------------------------------------------------------------------------------

Resign = Callable[[Webhook, tuple[bytes, ...]], Webhook]


def resign_receipt(request: Webhook, signatures: tuple[bytes, ...]) -> Webhook:
    unsigned = request.body.rpartition(b"&sig=")[0]
    return a_webhook(unsigned + b"".join(b"&sig=" + value for value in signatures), FORM)


def resign_token(request: Webhook, signatures: tuple[bytes, ...]) -> Webhook:
    query = "&".join(urlencode({"token": value}) for value in signatures)
    return a_webhook(request.body, JSON, f"{BASE_URL}?{query}" if query else BASE_URL)


def resign_sns(request: Webhook, signatures: tuple[bytes, ...]) -> Webhook:
    told = {name: value for name, value in json.loads(request.body).items() if name != "Signature"}
    for value in signatures:
        told["Signature"] = value.decode("latin-1")
    return a_webhook(json.dumps(told).encode())

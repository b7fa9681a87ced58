"""Makes and signs requests as Meta, Twilio and Viber do. The other providers are in `senders_more`.

Signing is done with a few lines of the standard library, so that a mistake in an adapter is not repeated here.
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode

from ledger.wire.contract import Webhook
from tests.providers.requests import BASE_URL, Item, a_webhook


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

"""Callbacks as providers send them, signed by a few lines of our own: the adapters' code is not its own judge."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode
from uuid import uuid4

import httpx

from tests.plugins.service import ACCOUNTS, Service

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

#: A provider's clock in these tests: an hour ago, so that its times are believed.
CLOCK = int(time.time()) - 3_600


class Callback(NamedTuple):
    """One request to `/webhooks/{account}`."""

    account: str
    body: bytes
    headers: dict[str, str]
    query: str = ""
    method: str = "POST"


def send(service: Service, callback: Callback, *, client: httpx.Client | None = None) -> httpx.Response:
    """Deliver a callback, its query string verbatim."""
    client = client or service.client()
    target = f"/webhooks/{callback.account}" + (f"?{callback.query}" if callback.query else "")
    return client.request(
        callback.method,
        "/",
        content=callback.body or None,
        headers=callback.headers,
        extensions={"target": target.encode("ascii")},
    )


def instant(seconds: int) -> str:
    """Return the instant so many seconds after `CLOCK`, as our API writes it."""
    return datetime.fromtimestamp(CLOCK + seconds, UTC).isoformat().replace("+00:00", "Z")


def new_wamid(phone: str = "12025550123") -> str:
    """Return a wamid as Meta makes them: the recipient's number is in it."""
    inner = b"\x1d\x04\x12" + phone.encode() + b"\x15\x02\x00\x11\x18\x12" + uuid4().hex.upper().encode()
    return "wamid." + base64.b64encode(inner).decode()


def new_sid() -> str:
    return f"SM{uuid4().hex}"


def new_token() -> str:
    return str(uuid4().int >> 66)


def new_phone() -> str:
    """Return digits that no other test uses."""
    return f"1202{uuid4().int % 10**7:07d}"


# Meta -----------------------------------------------------------------------------------------------------------------


def meta_status(wamid: str, status: str = "sent", at: int | None = 0, **fields: Any) -> dict[str, Any]:
    timestamp = {} if at is None else {"timestamp": str(CLOCK + at)}
    return {"id": wamid, "status": status, "recipient_id": "12025550123", **timestamp, **fields}


def meta_failure(wamid: str, at: int | None = 0, code: int = 131026) -> dict[str, Any]:
    error = {"code": code, "title": "Undeliverable", "error_data": {"details": "The number is not on WhatsApp."}}
    return meta_status(wamid, "failed", at, errors=[error])


def meta_body(statuses: Iterable[object], **value: Any) -> bytes:
    told = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "2001"}, "statuses": list(statuses)}
    change = {"field": "messages", "value": told | value}
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]}).encode()


def meta(*statuses: object, account: str = "meta-main") -> Callback:
    return meta_signed(meta_body(statuses), account=account)


def meta_signed(body: bytes, *, account: str = "meta-main", secret: str | None = None, **headers: str) -> Callback:
    """Sign any bytes as Meta does."""
    key = secret or ACCOUNTS[account]["secrets"][0]
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    return Callback(account, body, {"content-type": JSON, "x-hub-signature-256": f"sha256={signature}", **headers})


# Twilio ---------------------------------------------------------------------------------------------------------------


def twilio(sid: str, status: str = "sent", *, account: str = "twilio-main", **fields: str) -> Callback:
    told = {"MessageSid": sid, "MessageStatus": status, "To": "+12025550123", "From": "+12025550100", **fields}
    return twilio_signed(urlencode(told).encode(), account=account)


def twilio_signed(body: bytes, *, account: str = "twilio-main", query: str = "") -> Callback:
    """Sign a form as Twilio does."""
    url = ACCOUNTS[account]["public_url"] + (f"?{query}" if query else "")
    pairs = sorted(set(parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")))
    message = url.encode() + "".join(f"{name}{value}" for name, value in pairs).encode("latin-1")
    digest = hmac.new(ACCOUNTS[account]["secrets"][0].encode(), message, hashlib.sha1).digest()
    return Callback(
        account, body, {"content-type": FORM, "x-twilio-signature": base64.b64encode(digest).decode()}, query
    )


# Viber ----------------------------------------------------------------------------------------------------------------


def viber(token: str, event: str = "delivered", at: int = 0, *, account: str = "viber-main", **fields: Any) -> Callback:
    told = {
        "event": event,
        "timestamp": (CLOCK + at) * 1000,
        "message_token": int(token),
        "user_id": "user==",
        **fields,
    }
    return viber_signed(json.dumps(told).encode(), account=account)


def viber_signed(body: bytes, *, account: str = "viber-main") -> Callback:
    """Sign any bytes as Viber does."""
    signature = hmac.new(ACCOUNTS[account]["secrets"][0].encode(), body, hashlib.sha256).hexdigest()
    return Callback(account, body, {"content-type": JSON, "x-viber-content-signature": signature})


# What became of it ----------------------------------------------------------------------------------------------------


def found(api: httpx.Client, provider_message_id: str) -> list[dict[str, Any]]:
    """Return the messages of this provider's id that the client's key may see."""
    answer = api.get("/v1/messages", params={"provider_message_id": provider_message_id})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


def only(api: httpx.Client, provider_message_id: str) -> dict[str, Any]:
    """Return the one message of this provider's id."""
    (message,) = found(api, provider_message_id)
    return message


def history(api: httpx.Client, message: dict[str, Any], **parameters: str) -> list[dict[str, Any]]:
    answer = api.get(f"/v1/messages/{message['message_id']}/history", params={"limit": "200", **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]

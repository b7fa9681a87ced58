"""Requests as providers' own pages have them, none of them among the recorded payloads: what comes, and what is due.

Bodies are written from the vendors' documentation, not from what the adapters read. Every provider has words that no
payload has, members that are missing, null or of another type, one that is forged and, where a signature has a time,
one that is stale.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from ledger.wire.contract import Webhook
from tests.providers import senders as first
from tests.providers import senders_more as more
from tests.providers.requests import BASE_URL, Told, a_webhook, header_pairs

#: Labels of the two secrets that every account has, and of one that none has.
SECRET, ROTATED, FORGED = b"secret", b"rotated", b"forged"
HOUR = 3_600
AT = more.SECONDS


class Unseen(NamedTuple):
    """A request and what becomes of it."""

    case: str  #: of the conformance suite: which account gets it
    request: Callable[[], Webhook]
    message: str = ""  #: the provider's id of the messages it is about
    statuses: tuple[str, ...] = ()  #: of those messages, in order
    answer: int = 200
    kept: int = 0  #: items or requests that could not be read and are kept


def as_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def content_type(request: Webhook, told: str) -> Webhook:
    pairs = [(name, value) for name, value in header_pairs(request) if name != b"content-type"]
    return msgspec.structs.replace(request, headers=Told([*pairs, (b"content-type", told.encode())]))


# Meta, 360dialog ------------------------------------------------------------------------------------------------------


def _cloud(*statuses: Any, value: dict[str, Any] | None = None) -> bytes:
    told = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": "2001"}, "statuses": list(statuses)}
    change = {"field": "messages", "value": told | (value or {})}
    return as_json({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [change]}]})


def _cloud_status(wamid: str, status: object, **fields: Any) -> dict[str, Any]:
    return {"id": wamid, "status": status, "timestamp": "1792065607", "recipient_id": "12025550112", **fields}


_ERROR = {"code": 131000, "title": "Something went wrong", "error_data": {"details": "Zu viele Anfragen, später 📱"}}
_CALL = {"field": "calls", "value": {"statuses": [{"id": "wacid.1", "type": "call", "status": "RINGING"}]}}


def _meta(body: bytes, secret: bytes = SECRET) -> Callable[[], Webhook]:
    return lambda: first.sign_meta(body, secret)


META = {
    "meta: accepted, from the message history's words": Unseen(
        "meta", _meta(_cloud(_cloud_status("wamid.u1", "ACCEPTED"))), "wamid.u1", ("QUEUED",)
    ),
    "meta: a number as time, no recipient, null for the rest": Unseen(
        "meta",
        _meta(
            _cloud({"id": "wamid.u2", "status": "read", "timestamp": 1792065607, "conversation": None, "errors": None})
        ),
        "wamid.u2",
        ("READ",),
    ),
    "meta: two errors with letters from everywhere": Unseen(
        "meta", _meta(_cloud(_cloud_status("wamid.u3", "failed", errors=[_ERROR, _ERROR]))), "wamid.u3", ("FAILED",)
    ),
    "meta: one bad status among good ones": Unseen(
        "meta",
        _meta(_cloud(_cloud_status("wamid.u4", "sent"), {"status": "sent"}, _cloud_status("wamid.u4", "delivered"))),
        "wamid.u4",
        ("DELIVERED",),
        kept=1,
    ),
    "meta: a status that nobody knows yet": Unseen(
        "meta", _meta(_cloud(_cloud_status("wamid.u5", "held_for_quality_assessment"))), "wamid.u5", ("UNKNOWN",)
    ),
    "meta: a call's status, which is no message's": Unseen(
        "meta",
        _meta(as_json({"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [_CALL]}]})),
        "wacid.1",
    ),
    "meta: signed with the secret that replaces the other": Unseen(
        "meta", _meta(_cloud(_cloud_status("wamid.u7", "sent")), ROTATED), "wamid.u7", ("SENT",)
    ),
    "meta: forged": Unseen("meta", _meta(_cloud(_cloud_status("wamid.u8", "sent")), FORGED), "wamid.u8", answer=401),
    "meta: a form": Unseen(
        "meta",
        lambda: content_type(
            first.sign_meta(_cloud(_cloud_status("wamid.u9", "sent")), SECRET), more.FORM["Content-Type"]
        ),
        "wamid.u9",
        answer=415,
    ),
}


def _dialog(body: bytes, secret: bytes = SECRET) -> Callable[[], Webhook]:
    return lambda: more.send_dialog360(body, secret)


DIALOG360 = {
    "360dialog: statuses and an inbound message in one request": Unseen(
        "dialog360",
        _dialog(_cloud(_cloud_status("wamid.d1", "sent"), value={"messages": [{"id": "wamid.in", "type": "text"}]})),
        "wamid.d1",
        ("SENT",),
    ),
    "360dialog: the recipient by user id alone": Unseen(
        "dialog360",
        _dialog(
            _cloud({"id": "wamid.d2", "status": "delivered", "timestamp": "1792065607", "recipient_user_id": "US.77"})
        ),
        "wamid.d2",
        ("DELIVERED",),
    ),
    "360dialog: a group with two who read it": Unseen(
        "dialog360",
        _dialog(
            _cloud(
                *(
                    _cloud_status(
                        "wamid.d3", word, recipient_type="group", recipient_id="G1", recipient_participant_id=who
                    )
                    for word, who in (("read", "12025550113"), ("delivered", "12025550114"))
                )
            )
        ),
        "wamid.d3",
        ("DELIVERED", "READ"),
    ),
    "360dialog: a time that is none": Unseen(
        "dialog360", _dialog(_cloud(_cloud_status("wamid.d4", "sent", timestamp="soon"))), "wamid.d4", ("SENT",)
    ),
    "360dialog: statuses that are no list": Unseen(
        "dialog360", _dialog(_cloud(value={"statuses": {"id": "wamid.d5"}})), "wamid.d5", kept=1
    ),
    "360dialog: the secret that replaces the other": Unseen(
        "dialog360", _dialog(_cloud(_cloud_status("wamid.d6", "deleted")), ROTATED), "wamid.d6", ("DELETED",)
    ),
    "360dialog: another's secret": Unseen(
        "dialog360", _dialog(_cloud(_cloud_status("wamid.d7", "sent")), FORGED), "wamid.d7", answer=401
    ),
}

# Twilio ---------------------------------------------------------------------------------------------------------------


def _twilio(fields: list[tuple[str, str]], secret: bytes = SECRET, query: str = "") -> Callable[[], Webhook]:
    url = BASE_URL + (f"?{query}" if query else "")
    return lambda: first.sign_twilio_form(urlencode(fields).encode(), secret, url)


def _sid(number: int) -> str:
    return f"SM{number:032x}"


def _form(number: int, status: str, *fields: tuple[str, str]) -> list[tuple[str, str]]:
    return [("MessageSid", _sid(number)), ("MessageStatus", status), ("To", "+12025550128"), *fields]


_STREAMED = [
    {
        "type": "com.twilio.messaging.message.sent",
        "id": "EZ1",
        "data": {"messageSid": _sid(8), "messageStatus": "SENT"},
    },
    {"type": "com.twilio.messaging.message.failed", "id": "EZ2", "data": {"messageStatus": "FAILED"}},
    {"type": "com.twilio.voice.insights.call-summary", "id": "EZ3", "data": {"callSid": "CA1"}},
]

TWILIO = {
    "twilio: partially delivered": Unseen(
        "twilio callback", _twilio(_form(1, "partially_delivered")), _sid(1), ("SENT",)
    ),
    "twilio: repeated names, blank ones and letters from everywhere": Unseen(
        "twilio callback",
        _twilio(
            _form(2, "delivered", ("Tag", "b"), ("Tag", "a"), ("Tag", "a"), ("ErrorCode", ""), ("Note", "Grüße & 📱=?"))
        ),
        _sid(2),
        ("DELIVERED",),
    ),
    "twilio: a warning's code on a message that was sent": Unseen(
        "twilio callback", _twilio(_form(3, "sent", ("ErrorCode", "30018"))), _sid(3), ("SENT",)
    ),
    "twilio: a query with blanks, repeats and escapes, as it was configured": Unseen(
        "twilio callback", _twilio(_form(4, "read"), query="a=%20x&a=2&b&c=%E2%9C%93"), _sid(4), ("READ",)
    ),
    "twilio: only the older names": Unseen(
        "twilio callback", _twilio([("SmsSid", _sid(5)), ("SmsStatus", "undelivered")]), _sid(5), ("FAILED",)
    ),
    "twilio: a scheduled message was canceled, by the other secret": Unseen(
        "twilio callback", _twilio(_form(6, "canceled"), ROTATED), _sid(6), ("FAILED",)
    ),
    "twilio: an inbound message at the same address": Unseen(
        "twilio callback", _twilio([("MessageSid", _sid(7)), ("SmsStatus", "received"), ("Body", "hi")]), _sid(7)
    ),
    "twilio: a stream with one bad event and one about calls": Unseen(
        "twilio event stream", lambda: first.sign_twilio_events(as_json(_STREAMED), SECRET), _sid(8), ("SENT",), kept=1
    ),
    "twilio: forged": Unseen("twilio callback", _twilio(_form(9, "sent"), FORGED), _sid(9), answer=401),
    "twilio: signed for another address": Unseen(
        "twilio callback",
        lambda: first.sign_twilio_form(urlencode(_form(10, "sent")).encode(), SECRET, BASE_URL, BASE_URL + "/"),
        _sid(10),
        answer=401,
    ),
    "twilio: a multipart form": Unseen(
        "twilio callback",
        lambda: content_type(_twilio(_form(11, "sent"))(), "multipart/form-data; boundary=x"),
        _sid(11),
        answer=415,
    ),
}

# Viber ----------------------------------------------------------------------------------------------------------------


def _viber(secret: bytes = SECRET, **fields: Any) -> Callable[[], Webhook]:
    return lambda: first.sign_viber(as_json({"timestamp": 1792065601250, "user_id": "u==", **fields}), secret)


def _viber_in_query() -> Webhook:
    body = as_json({"event": "seen", "timestamp": 1792065601250, "message_token": "9000000000000000006"})
    signature = first.sign_viber(body, SECRET).headers.first("x-viber-content-signature") or b""
    return a_webhook(body, more.JSON, f"{BASE_URL}?sig={signature.decode()}&x=1")


VIBER = {
    "viber: an id as text, with chat members": Unseen(
        "viber",
        _viber(event="seen", message_token="9000000000000000001", chat_hostname="SN-CHAT-01_", chat_id="5"),
        "9000000000000000001",
        ("READ",),
    ),
    "viber: time and id exchanged, as in the vendor's own test": Unseen(
        "viber",
        _viber(event="delivered", timestamp=4977069964384421269, message_token=1478683725125),
        "1478683725125",
        ("DELIVERED",),
    ),
    "viber: refused by the client, with a reason from everywhere": Unseen(
        "viber",
        _viber(event="failed", message_token=9000000000000000003, desc="не доставлено: размер 📎"),
        "9000000000000000003",
        ("FAILED",),
    ),
    "viber: nobody named": Unseen(
        "viber",
        _viber(event="delivered", message_token=9000000000000000004, user_id=None),
        "9000000000000000004",
        ("DELIVERED",),
    ),
    "viber: an id that has lost digits": Unseen(
        "viber", _viber(event="delivered", message_token=9.000000000000001e18), "9000000000000001000", kept=1
    ),
    "viber: the signature in the query": Unseen("viber", _viber_in_query, "9000000000000000006", ("READ",)),
    "viber: somebody subscribed": Unseen(
        "viber", _viber(event="subscribed", user={"id": "u=="}, message_token=77), "77"
    ),
    "viber: the other secret": Unseen(
        "viber",
        _viber(ROTATED, event="delivered", message_token=9000000000000000008),
        "9000000000000000008",
        ("DELIVERED",),
    ),
    "viber: forged": Unseen(
        "viber", _viber(FORGED, event="delivered", message_token=9000000000000000009), "9000000000000000009", answer=401
    ),
}

# Vonage ---------------------------------------------------------------------------------------------------------------


def _vonage(
    secret: bytes = SECRET, at: int = AT, *, claims: dict[str, Any] | None = None, **fields: Any
) -> Callable[[], Webhook]:
    body = as_json({"to": "447700900123", "from": "447700900001", "timestamp": "2026-10-15T12:00:01Z", **fields})
    return lambda: more.sign_vonage(body, secret, at, **(claims or {}))


def _vonage_receipt(
    secret: bytes = SECRET, at: int = AT, method: str = "sha256", **fields: str
) -> Callable[[], Webhook]:
    told = {"msisdn": "447700900123", "to": "Acme", **{name.replace("_", "-"): value for name, value in fields.items()}}
    return lambda: more.sign_vonage_receipt(urlencode(told).encode(), secret, at, method)


def _vonage_json_receipt() -> Webhook:
    """A receipt as the SMS API posts it when JSON is chosen: numbers may be numbers, and are signed as written."""
    told: dict[str, Any] = {
        "messageId": "0A0000000U3",
        "status": "failed",
        "err-code": 6,
        "timestamp": AT,
        "nonce": "n",
    }
    text = more.vonage_text((name, str(value)) for name, value in told.items())
    told["sig"] = more._hmac(SECRET, text).hex()
    return a_webhook(as_json(told), more.JSON)


def _vonage_by_get() -> Webhook:
    posted = _vonage_receipt(messageId="0A0000000U4", status="expired", err_code="13", scts="2610151200")()
    return a_webhook(b"", (), f"{BASE_URL}?{posted.body.decode()}", "GET")


VONAGE = {
    "vonage: RCS that was read, and moved on in a workflow": Unseen(
        "vonage message",
        _vonage(message_uuid="v-1", status="read", channel="rcs", workflow={"id": "w", "items_number": 2}, error=None),
        "v-1",
        ("READ",),
    ),
    "vonage: rejected, with the code as text and no time": Unseen(
        "vonage message",
        _vonage(
            message_uuid="v-2", status="rejected", timestamp=None, error={"title": "1241", "detail": "Sí, demasiados"}
        ),
        "v-2",
        ("FAILED",),
    ),
    "vonage: a receipt in JSON whose code is a number": Unseen(
        "vonage receipt", _vonage_json_receipt, "0A0000000U3", ("FAILED",)
    ),
    "vonage: a receipt by GET": Unseen("vonage receipt", _vonage_by_get, "0A0000000U4", ("FAILED",)),
    "vonage: a receipt signed with the dashboard's plain digest": Unseen(
        "vonage receipt",
        _vonage_receipt(method="md5hash", messageId="0A0000000U5", status="unknown", err_code="1"),
        "0A0000000U5",
        ("SENT",),
    ),
    "vonage: a receipt whose reference has separators and letters from everywhere": Unseen(
        "vonage receipt",
        _vonage_receipt(messageId="0A0000000U6", status="accepted", client_ref="a=b&c, ü"),
        "0A0000000U6",
        ("QUEUED",),
    ),
    "vonage: no word at all": Unseen("vonage message", _vonage(message_uuid="v-7", status=" "), "v-7", kept=1),
    "vonage: the other secret": Unseen(
        "vonage message", _vonage(ROTATED, message_uuid="v-8", status="undeliverable"), "v-8", ("FAILED",)
    ),
    "vonage: a token of another body": Unseen(
        "vonage message",
        _vonage(claims={"payload_hash": "0" * 64}, message_uuid="v-9", status="delivered"),
        "v-9",
        answer=401,
    ),
    "vonage: a token of two days ago": Unseen(
        "vonage message", _vonage(at=AT - 48 * HOUR, message_uuid="v-10", status="delivered"), "v-10", answer=401
    ),
    "vonage: a receipt of two days ago": Unseen(
        "vonage receipt",
        _vonage_receipt(at=AT - 48 * HOUR, messageId="0A000000U11", status="delivered"),
        "0A000000U11",
        answer=401,
    ),
    "vonage: forged": Unseen(
        "vonage message", _vonage(FORGED, message_uuid="v-12", status="delivered"), "v-12", answer=401
    ),
}

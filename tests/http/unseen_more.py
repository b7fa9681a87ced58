"""More requests that are not among the recorded payloads: see `unseen_requests`."""

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from ledger.wire.contract import Webhook
from tests.http.unseen_requests import AT, FORGED, HOUR, ROTATED, SECRET, Unseen, as_json, content_type
from tests.providers import senders_more as more
from tests.providers.requests import BASE_URL, a_webhook

# Infobip --------------------------------------------------------------------------------------------------------------


def _infobip(*reports: Any, secret: bytes = SECRET) -> Callable[[], Webhook]:
    return lambda: more.send_infobip(as_json({"results": list(reports)}), secret)


def _report(message_id: object, group: str | None, name: str | None, **fields: Any) -> dict[str, Any]:
    status = {"groupName": group, "name": name, "description": "Überfällig"}
    return {"messageId": message_id, "to": "385911234567", "status": status, **fields}


INFOBIP = {
    "infobip: rejected for want of credit, with an unnamed error": Unseen(
        "infobip",
        _infobip(_report("i-1", "REJECTED", "REJECTED_NOT_ENOUGH_CREDITS", error={"id": 0, "name": "NO_ERROR"})),
        "i-1",
        ("FAILED",),
    ),
    "infobip: a new name in the group that also holds a step before the handset": Unseen(
        "infobip", _infobip(_report("i-2", "DELIVERED", "DELIVERED_TO_SOMEWHERE")), "i-2", ("UNKNOWN",)
    ),
    "infobip: the group alone": Unseen("infobip", _infobip(_report("i-3", "DELIVERED", None)), "i-3", ("DELIVERED",)),
    "infobip: the operator has it, and its group says delivered": Unseen(
        "infobip", _infobip(_report("i-4", "DELIVERED", "DELIVERED_TO_OPERATOR", doneAt=None)), "i-4", ("SENT",)
    ),
    "infobip: no report came from the operator, a number as id": Unseen(
        "infobip",
        _infobip(_report(12345678901234567890, "EXPIRED", "EXPIRED_DLR_UNKNOWN")),
        "12345678901234567890",
        ("SENT",),
    ),
    "infobip: a hundred reports, two of them bad": Unseen(
        "infobip",
        _infobip(
            *(_report(f"i-6.{number}", "PENDING", "PENDING_ACCEPTED") for number in range(98)),
            {"messageId": "i-6.x"},
            7,
        ),
        "i-6.97",
        ("QUEUED",),
        kept=2,
    ),
    "infobip: seen on Viber, from the user's side": Unseen(
        "infobip",
        _infobip({"messageId": "i-7", "from": "385911234567", "to": "Acme", "seenAt": "2026-10-15T12:00:00.000+0000"}),
        "i-7",
        ("READ",),
    ),
    "infobip: the other password": Unseen(
        "infobip", _infobip(_report("i-8", "PENDING", "PENDING_ENROUTE"), secret=ROTATED), "i-8", ("SENT",)
    ),
    "infobip: another's password": Unseen(
        "infobip", _infobip(_report("i-9", "PENDING", "PENDING_ENROUTE"), secret=FORGED), "i-9", answer=401
    ),
    "infobip: results that are no list": Unseen(
        "infobip", lambda: more.send_infobip(b'{"results":{"messageId":"i-10"}}', SECRET), "i-10", kept=1
    ),
}

# Sinch ----------------------------------------------------------------------------------------------------------------


def _sinch(told: Any, secret: bytes = SECRET, at: int = AT) -> Callable[[], Webhook]:
    return lambda: more.sign_sinch(as_json(told), secret, at)


def _conversation(message_id: str, status: str, channel: str = "WHATSAPP", **fields: Any) -> dict[str, Any]:
    to = {"channel": channel, "identity": "46702000000"}
    report = {"message_id": message_id, "status": status, "channel_identity": to, **fields}
    return {"app_id": "01APP", "event_time": "2026-10-15T12:00:09.892757478Z", "message_delivery_report": report}


_BATCH = {
    "type": "delivery_report_sms",
    "batch_id": "01FCB",
    "statuses": [
        {"code": 0, "status": "Delivered", "count": 2, "recipients": ["46702000001", 46702000002]},
        {"code": 407, "status": "Cancelled", "count": 1, "recipients": ["46702000003"]},
        {"code": 400, "status": "Queued", "count": 9},
    ],
}

SINCH = {
    "sinch: the next channel is tried, with a reason": Unseen(
        "sinch message",
        _sinch(_conversation("01S1", "SWITCHING_CHANNEL", reason={"code": "RECIPIENT_NOT_REACHABLE"})),
        "01S1",
        ("UNKNOWN",),
    ),
    "sinch: delivered by RCS, no identity": Unseen(
        "sinch message",
        _sinch(_conversation("01S2", "DELIVERED", "RCS", channel_identity=None)),
        "01S2",
        ("DELIVERED",),
    ),
    "sinch: another kind of event": Unseen(
        "sinch message", _sinch({"app_id": "01APP", "contact_create_notification": {"contact": {"id": "01S3"}}}), "01S3"
    ),
    "sinch: a full batch with a number as recipient and a summary in it": Unseen(
        "sinch sms", _sinch(_BATCH), "01FCB", ("DELIVERED", "DELIVERED", "FAILED"), kept=1
    ),
    "sinch: the operator never said, in capitals": Unseen(
        "sinch sms",
        _sinch(
            {
                "type": "recipient_delivery_report_sms",
                "batch_id": "01S5",
                "recipient": "46702000000",
                "status": "UNKNOWN",
            }
        ),
        "01S5",
        ("SENT",),
    ),
    "sinch: an MMS, expired within": Unseen(
        "sinch sms",
        _sinch(
            {
                "type": "recipient_delivery_report_mms",
                "batch_id": "01S6",
                "recipient": "46702000000",
                "status": "Expired",
                "code": 406,
                "at": "2026-10-15T12:00:01",
            }
        ),
        "01S6",
        ("FAILED",),
    ),
    "sinch: nobody named": Unseen(
        "sinch sms",
        _sinch({"type": "recipient_delivery_report_sms", "batch_id": "01S7", "status": "Failed"}),
        "01S7",
        kept=1,
    ),
    "sinch: a repeat of most of a day ago, by the other secret": Unseen(
        "sinch message", _sinch(_conversation("01S8", "READ"), ROTATED, AT - 22 * HOUR), "01S8", ("READ",)
    ),
    "sinch: two days old": Unseen(
        "sinch message", _sinch(_conversation("01S9", "READ"), at=AT - 48 * HOUR), "01S9", answer=401
    ),
    "sinch: forged": Unseen("sinch message", _sinch(_conversation("01S10", "READ"), FORGED), "01S10", answer=401),
}

# Telnyx ---------------------------------------------------------------------------------------------------------------


def _telnyx(
    secret: bytes = SECRET, at: int = AT, *, event: str = "message.finalized", **payload: Any
) -> Callable[[], Webhook]:
    told = {"direction": "outbound", "type": "SMS", **payload}
    data = {"record_type": "event", "id": None, "event_type": event, "payload": told}
    return lambda: more.sign_telnyx(as_json({"data": data, "meta": {"attempt": 2}}), secret, at)


TELNYX = {
    "telnyx: it ran out of time, and no time is told": Unseen(
        "telnyx", _telnyx(id="t-1", to=[{"phone_number": "+15555550101", "status": "expired"}]), "t-1", ("FAILED",)
    ),
    "telnyx: a group with one bad recipient": Unseen(
        "telnyx",
        _telnyx(
            id="t-2",
            to=[
                {"phone_number": "+15555550101", "status": "delivered"},
                {"phone_number": "+15555550102", "status": None},
                {"phone_number": "+15555550103", "status": "sending_failed"},
            ],
        ),
        "t-2",
        ("DELIVERED", "FAILED"),
        kept=1,
    ),
    "telnyx: a new word": Unseen(
        "telnyx", _telnyx(id="t-3", to=[{"phone_number": "+15555550101", "status": "gw_timeout"}]), "t-3", ("UNKNOWN",)
    ),
    "telnyx: an inbound message": Unseen(
        "telnyx",
        _telnyx(event="message.received", id="t-4", direction="inbound", to=[{"status": "webhook_delivered"}]),
        "t-4",
    ),
    "telnyx: a call": Unseen("telnyx", _telnyx(event="call.hangup", id="t-5"), "t-5"),
    "telnyx: read by RCS, with letters from everywhere in its tag": Unseen(
        "telnyx",
        _telnyx(
            event="message.read",
            id="t-6",
            type="RCS",
            tags=["größer ✓"],
            to=[{"phone_number": "+15555550101", "status": "read"}],
        ),
        "t-6",
        ("READ",),
    ),
    "telnyx: nobody": Unseen("telnyx", _telnyx(id="t-7", to=None), "t-7", kept=1),
    "telnyx: the other key": Unseen(
        "telnyx",
        _telnyx(ROTATED, id="t-8", to=[{"phone_number": "+15555550101", "status": "sending"}]),
        "t-8",
        ("QUEUED",),
    ),
    "telnyx: six minutes old": Unseen(
        "telnyx", _telnyx(at=AT - 360, id="t-9", to=[{"phone_number": "+1", "status": "sent"}]), "t-9", answer=401
    ),
    "telnyx: six minutes ahead": Unseen(
        "telnyx", _telnyx(at=AT + 360, id="t-10", to=[{"phone_number": "+1", "status": "sent"}]), "t-10", answer=401
    ),
    "telnyx: forged": Unseen(
        "telnyx", _telnyx(FORGED, id="t-11", to=[{"phone_number": "+1", "status": "sent"}]), "t-11", answer=401
    ),
}

# MessageBird and Bird -------------------------------------------------------------------------------------------------


def _messagebird(
    fields: dict[str, str], secret: bytes = SECRET, at: int = AT, algorithm: str = "HS256"
) -> Callable[[], Webhook]:
    return lambda: more.sign_messagebird(urlencode(fields).encode(), secret, at, algorithm)


def _bird(event: str, payload: dict[str, Any], secret: bytes = SECRET, at: int = AT) -> Callable[[], Webhook]:
    return lambda: more.sign_bird(as_json({"service": "channels", "event": event, "payload": payload}), secret, at)


def _sms(message_id: str, status: str, **fields: str) -> dict[str, str]:
    return {"id": message_id, "recipient": "31612345678", "status": status, **fields}


MESSAGEBIRD = {
    "messagebird: scheduled, no time": Unseen(
        "messagebird sms", _messagebird(_sms("mb-1", "scheduled")), "mb-1", ("QUEUED",)
    ),
    "messagebird: expired, by the longest token": Unseen(
        "messagebird sms",
        _messagebird(_sms("mb-2", "expired", statusDatetime=""), algorithm="HS512"),
        "mb-2",
        ("FAILED",),
    ),
    "messagebird: blanks, separators and letters from everywhere in the query": Unseen(
        "messagebird sms", _messagebird(_sms("mb-3", "buffered", reference="a b&c=é✓ +")), "mb-3", ("SENT",)
    ),
    "messagebird: nobody named": Unseen(
        "messagebird sms", _messagebird({"id": "mb-4", "status": "delivered"}), "mb-4", kept=1
    ),
    "messagebird: the other secret": Unseen(
        "messagebird sms", _messagebird(_sms("mb-5", "delivered"), ROTATED), "mb-5", ("DELIVERED",)
    ),
    "messagebird: a token of two minutes ago": Unseen(
        "messagebird sms", _messagebird(_sms("mb-6", "delivered"), at=AT - 120), "mb-6", answer=401
    ),
    "messagebird: forged": Unseen(
        "messagebird sms", _messagebird(_sms("mb-7", "delivered"), FORGED), "mb-7", answer=401
    ),
    "bird: could not be sent, error as text": Unseen(
        "bird channels",
        _bird("whatsapp.outbound", {"id": "b-1", "status": "sending_failed", "error": "no"}),
        "b-1",
        ("FAILED",),
    ),
    "bird: skipped": Unseen(
        "bird channels", _bird("sms.outbound", {"id": "b-2", "status": "skipped"}), "b-2", ("FAILED",)
    ),
    "bird: a click, which is no status": Unseen(
        "bird channels", _bird("whatsapp.interaction", {"messageId": "b-3", "type": "clicked"}), "b-3"
    ),
    "bird: an inbound message": Unseen(
        "bird channels", _bird("viber.inbound", {"id": "b-4", "status": "delivered", "direction": "incoming"}), "b-4"
    ),
    "bird: opened, with null for the rest": Unseen(
        "bird channels",
        _bird("viber.interaction", {"messageId": "b-5", "type": "opened", "createdAt": None, "receiver": None}),
        "b-5",
        ("READ",),
    ),
    "bird: a repeat of a day ago with the first attempt's time, by the other secret": Unseen(
        "bird channels",
        _bird("sms.outbound", {"id": "b-6", "status": "delivered"}, ROTATED, AT - 24 * HOUR),
        "b-6",
        ("DELIVERED",),
    ),
    "bird: three days old": Unseen(
        "bird channels",
        _bird("sms.outbound", {"id": "b-7", "status": "delivered"}, at=AT - 72 * HOUR),
        "b-7",
        answer=401,
    ),
    "bird: forged": Unseen(
        "bird channels", _bird("sms.outbound", {"id": "b-8", "status": "delivered"}, FORGED), "b-8", answer=401
    ),
}

# Plivo ----------------------------------------------------------------------------------------------------------------


def _plivo(fields: dict[str, str], secret: bytes = SECRET, query: str = "") -> Callable[[], Webhook]:
    url = BASE_URL + (f"?{query}" if query else "")
    return lambda: more.sign_plivo(urlencode(fields).encode(), secret, url)


def _plivo_v2(fields: dict[str, str], secret: bytes = SECRET) -> Callable[[], Webhook]:
    """Address and nonce are all that version 2 signs."""
    signature = base64.b64encode(more._hmac(secret, f"{BASE_URL}77".encode())).decode()
    headers = {**more.FORM, "X-Plivo-Signature-V2": signature, "X-Plivo-Signature-V2-Nonce": "77"}
    return lambda: a_webhook(urlencode(fields).encode(), headers)


def _plivo_wrong_v3_good_v2() -> Webhook:
    good = _plivo_v2({"MessageUUID": "p-8", "Status": "sent"})()
    headers = {
        name: (good.headers.first(name.lower()) or b"").decode()
        for name in ("X-Plivo-Signature-V2", "X-Plivo-Signature-V2-Nonce")
    }
    wrong = {"X-Plivo-Signature-V3": "bm8=", "X-Plivo-Signature-V3-Nonce": "1"}
    return a_webhook(good.body, {**more.FORM, **headers, **wrong})


PLIVO = {
    "plivo: rejected, as older pages have it": Unseen(
        "plivo", _plivo({"MessageUUID": "p-1", "Status": "rejected", "ErrorCode": "000"}), "p-1", ("FAILED",)
    ),
    "plivo: the first of three parts": Unseen(
        "plivo",
        _plivo({"MessageUUID": "p-2", "ParentMessageUUID": "p-2", "PartInfo": "1 of 3", "Status": "delivered"}),
        "p-2",
        ("SENT",),
    ),
    "plivo: a query at the address, and letters from everywhere": Unseen(
        "plivo",
        _plivo({"MessageUUID": "p-3", "Status": "queued", "From": "Müller ✓"}, query="b=2&a=1%202"),
        "p-3",
        ("QUEUED",),
    ),
    "plivo: an MMS by version 2 alone": Unseen(
        "plivo", _plivo_v2({"MessageUUID": "p-4", "Status": "sent", "Type": "mms"}), "p-4", ("SENT",)
    ),
    "plivo: an inbound message": Unseen("plivo", _plivo({"MessageUUID": "p-5", "Status": "received"}), "p-5"),
    "plivo: no word": Unseen("plivo", _plivo({"MessageUUID": "p-6", "Status": ""}), "p-6", kept=1),
    "plivo: the other token": Unseen(
        "plivo",
        _plivo({"MessageUUID": "p-7", "Status": "failed", "DeliveryReportTime": "None"}, ROTATED),
        "p-7",
        ("FAILED",),
    ),
    "plivo: a wrong version 3 beside a good version 2": Unseen("plivo", _plivo_wrong_v3_good_v2, "p-8", answer=401),
    "plivo: forged": Unseen("plivo", _plivo({"MessageUUID": "p-9", "Status": "sent"}, FORGED), "p-9", answer=401),
    "plivo: JSON": Unseen(
        "plivo",
        lambda: content_type(_plivo({"MessageUUID": "p-10", "Status": "sent"})(), "application/json"),
        "p-10",
        answer=415,
    ),
}

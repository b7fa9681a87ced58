"""The rest of the requests that are not among the recorded payloads: see `unseen_requests`."""

from collections.abc import Callable
from typing import Any

from ledger.wire.contract import Webhook
from tests.http.unseen_requests import AT, FORGED, ROTATED, SECRET, Unseen, as_json, content_type
from tests.providers import senders_more as more

# AWS ------------------------------------------------------------------------------------------------------------------


def _aws(event: object, secret: bytes = SECRET, **envelope: str) -> Callable[[], Webhook]:
    message = event if isinstance(event, bytes) else as_json(event)
    return lambda: more.sign_sns(more.sns_envelope(message, **envelope), secret)


def _event(message_id: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"eventType": kind, "eventTimestamp": 1792065601250, "messageId": message_id, **fields}


AWS = {
    "aws: the handset could not be reached": Unseen(
        "aws", _aws(_event("a-1", "TEXT_UNREACHABLE", messageStatus="UNREACHABLE", isFinal=True)), "a-1", ("FAILED",)
    ),
    "aws: an MMS whose file is too large": Unseen(
        "aws", _aws(_event("a-2", "MEDIA_FILE_SIZE_EXCEEDED", messageStatus="FILE_SIZE_EXCEEDED")), "a-2", ("FAILED",)
    ),
    "aws: RCS that was read": Unseen("aws", _aws(_event("a-3", "RCS_READ", messageStatus="READ")), "a-3", ("READ",)),
    "aws: RCS that goes on as an SMS": Unseen(
        "aws", _aws(_event("a-4", "RCS_FALLEN_BACK_TO_SMS", context=None)), "a-4", ("UNKNOWN",)
    ),
    "aws: accepted by the carrier, not final, time as text": Unseen(
        "aws", _aws(_event("a-5", "TEXT_SUCCESSFUL", isFinal=False, eventTimestamp="soon")), "a-5", ("SENT",)
    ),
    "aws: by way of EventBridge, with letters from everywhere": Unseen(
        "aws",
        _aws({"source": "aws.sms-voice", "detail": _event("a-6", "TEXT_DELIVERED", context={"clé": "größer ✓"})}),
        "a-6",
        ("DELIVERED",),
    ),
    "aws: a registration's change, which is no message's": Unseen(
        "aws", _aws({"eventType": "REGISTRATION_STATUS_CHANGE", "registrationId": "r"}), "r"
    ),
    "aws: a message that is no JSON": Unseen("aws", _aws(b"hello"), "hello", kept=1),
    "aws: signed in the older way, under the other certificate": Unseen(
        "aws", _aws(_event("a-9", "TEXT_PENDING"), ROTATED, SignatureVersion="1", Subject="s"), "a-9", ("SENT",)
    ),
    "aws: somebody else's topic": Unseen(
        "aws",
        _aws(_event("a-10", "TEXT_DELIVERED"), TopicArn="arn:aws:sns:eu-west-1:999999999999:x"),
        "a-10",
        answer=401,
    ),
    "aws: forged": Unseen("aws", _aws(_event("a-11", "TEXT_DELIVERED"), FORGED), "a-11", answer=401),
}

# Gupshup --------------------------------------------------------------------------------------------------------------


def _gupshup(told: object, secret: bytes = SECRET) -> Callable[[], Webhook]:
    return lambda: more.send_with_token(as_json(told), secret)


def _v2(kind: str, payload: Any, event: str = "message-event", **fields: Any) -> dict[str, Any]:
    return {
        "app": "DemoApp",
        "timestamp": 1792065601250,
        "version": 2,
        "type": event,
        "payload": {"type": kind, **payload},
        **fields,
    }


def _v3(*statuses: Any) -> dict[str, Any]:
    value = {"messaging_product": "whatsapp", "statuses": list(statuses)}
    return {
        "object": "whatsapp_business_account",
        "gs_app_id": "g",
        "entry": [{"changes": [{"field": "messages", "value": value}]}],
    }


GUPSHUP = {
    "gupshup: sent, under both ids": Unseen(
        "gupshup v2",
        _gupshup(_v2("sent", {"id": "wamid.g1", "gsId": "g-1", "payload": {"ts": 1792065601}})),
        "g-1",
        ("SENT",),
    ),
    "gupshup: read after more than a week, under WhatsApp's id alone": Unseen(
        "gupshup v2", _gupshup(_v2("read", {"id": "wamid.g2", "gsId": None, "payload": None})), "wamid.g2", ("READ",)
    ),
    "gupshup: failed, with a code as number and a reason from everywhere": Unseen(
        "gupshup v2",
        _gupshup(
            _v2("failed", {"id": "g-3", "destination": "918x98210005", "payload": {"code": 1005, "reason": "नहीं"}})
        ),
        "g-3",
        ("FAILED",),
    ),
    "gupshup: billing": Unseen(
        "gupshup v2", _gupshup(_v2("x", {"references": {"gsId": "g-4"}}, "billing-event")), "g-4"
    ),
    "gupshup: version 3 in seconds, one without a word": Unseen(
        "gupshup v3",
        _gupshup(
            _v3(
                {"gs_id": "g-5", "id": "wamid.g5", "status": "delivered", "timestamp": "1792065601"},
                {"gs_id": "g-5", "id": "wamid.g5"},
            )
        ),
        "g-5",
        ("DELIVERED",),
        kept=1,
    ),
    "gupshup: version 3, waiting, recipient masked": Unseen(
        "gupshup v3",
        _gupshup(
            _v3(
                {
                    "gs_id": "g-6",
                    "id": "g-6",
                    "status": "enqueued",
                    "timestamp": 1792065601250,
                    "recipient_id": "9191****873",
                }
            )
        ),
        "g-6",
        ("QUEUED",),
    ),
    "gupshup: the other secret": Unseen(
        "gupshup v2", _gupshup(_v2("delivered", {"id": "g-7"}), ROTATED), "g-7", ("DELIVERED",)
    ),
    "gupshup: another's secret": Unseen(
        "gupshup v2", _gupshup(_v2("delivered", {"id": "g-8"}), FORGED), "g-8", answer=401
    ),
}

# Route Mobile ---------------------------------------------------------------------------------------------------------


def _routemobile(secret: bytes = SECRET, **told: Any) -> Callable[[], Webhook]:
    return lambda: more.send_with_token(as_json({"service_type": "dlr", "phone_number": "12025550154", **told}), secret)


ROUTEMOBILE = {
    "routemobile: seen, with a capital and seconds": Unseen(
        "routemobile", _routemobile(request_id="r-1", message_status="Seen", message_time=1792065606), "r-1", ("READ",)
    ),
    "routemobile: a number as id, no time": Unseen(
        "routemobile", _routemobile(request_id=77001, message_status="expired", message_time=None), "77001", ("FAILED",)
    ),
    "routemobile: nobody named, time as text": Unseen(
        "routemobile",
        _routemobile(request_id="r-3", message_status="sent", phone_number=None, message_time="1792065606000"),
        "r-3",
        ("SENT",),
    ),
    "routemobile: a new word": Unseen(
        "routemobile", _routemobile(request_id="r-4", message_status="Прочитано"), "r-4", ("UNKNOWN",)
    ),
    "routemobile: no id": Unseen("routemobile", _routemobile(message_status="delivered"), "r-5", kept=1),
    "routemobile: the other secret": Unseen(
        "routemobile", _routemobile(ROTATED, request_id="r-6", message_status="delivered"), "r-6", ("DELIVERED",)
    ),
    "routemobile: another's secret": Unseen(
        "routemobile", _routemobile(FORGED, request_id="r-7", message_status="delivered"), "r-7", answer=401
    ),
    "routemobile: text": Unseen(
        "routemobile",
        lambda: content_type(_routemobile(request_id="r-8", message_status="delivered")(), "text/plain"),
        "r-8",
        answer=415,
    ),
}

# Standard Webhooks ----------------------------------------------------------------------------------------------------


def _standard(
    secret: bytes = SECRET, at: int = AT, name: str = "msg_u", prefix: str = "webhook", **data: Any
) -> Callable[[], Webhook]:
    body = as_json({"type": "message", "timestamp": None, "data": data})
    return lambda: more.sign_standard(body, secret, at, name, prefix)


def _twice_signed() -> Webhook:
    """One signature of a secret that is gone and one that is known, as while secrets are rotated."""
    good = _standard(message_id="s-6", status="sent")()
    signature = (good.headers.first("webhook-signature") or b"").decode()
    return more.a_webhook(good.body, more.standard_headers("msg_u", AT, f"v1,{'A' * 43}= nonsense v9,x {signature}"))


_LISTED = [{"data": {"message_id": "s-7", "status": "delivered"}}, {"data": {"status": "read"}}, None]

STANDARD = {
    "standard: a number as id, channel in capitals": Unseen(
        "standardwebhooks v1",
        _standard(message_id=9007199254740993, status="READ", channel="SMS"),
        "9007199254740993",
        ("READ",),
    ),
    "standard: the older headers": Unseen(
        "standardwebhooks v1", _standard(prefix="svix", message_id="s-2", status="queued"), "s-2", ("QUEUED",)
    ),
    "standard: an error beside a word that is no failure": Unseen(
        "standardwebhooks v1",
        _standard(message_id="s-3", status="sent", error={"code": "late", "message": "später"}),
        "s-3",
        ("SENT",),
    ),
    "standard: a word nobody mapped": Unseen(
        "standardwebhooks v1", _standard(message_id="s-4", status="bounced ✗"), "s-4", ("UNKNOWN",)
    ),
    "standard: no word": Unseen("standardwebhooks v1", _standard(message_id="s-5", status=None), "s-5", kept=1),
    "standard: several signatures, one of them good": Unseen("standardwebhooks v1", _twice_signed, "s-6", ("SENT",)),
    "standard: listed, two of three bad": Unseen(
        "standardwebhooks v1a, listed",
        lambda: more.sign_standard_v1a(as_json({"reports": _LISTED}), SECRET),
        "s-7",
        ("DELIVERED",),
        kept=2,
    ),
    "standard: the other public key": Unseen(
        "standardwebhooks v1a, listed",
        lambda: more.sign_standard_v1a(
            as_json({"reports": [{"data": {"message_id": "s-8", "status": "failed"}}]}), ROTATED
        ),
        "s-8",
        ("FAILED",),
    ),
    "standard: an id with a dot": Unseen(
        "standardwebhooks v1", _standard(name="msg.u", message_id="s-9", status="sent"), "s-9", answer=401
    ),
    "standard: six minutes old": Unseen(
        "standardwebhooks v1", _standard(at=AT - 360, message_id="s-10", status="sent"), "s-10", answer=401
    ),
    "standard: forged": Unseen(
        "standardwebhooks v1", _standard(FORGED, message_id="s-11", status="sent"), "s-11", answer=401
    ),
}

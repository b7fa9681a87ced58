"""Imitates Twilio Programmable Messaging: status callbacks (a form, no time) and Event Streams (batches with times)."""

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlencode

from ledger.commands.simulation.model import (
    Account,
    Dating,
    Dice,
    Ids,
    Report,
    Request,
    Step,
    Story,
)

CHANNEL: Final = "sms"
BATCH_MAX: Final = 20
_ACCOUNT_SID: Final = "AC" + "0" * 30 + "a1"
_EVENT: Final = "com.twilio.messaging.message."

_QUEUED: Final = Step(word="queued", says="QUEUED")
_SENT: Final = Step(word="sent", says="SENT")
_DELIVERED: Final = Step(word="delivered", says="DELIVERED", after=(1, 60))
_READ: Final = Step(word="read", says="READ", after=(2, 200))
_CANCELED: Final = Step(word="canceled", says="FAILED", kind="failed", after=(5, 60))
_PARTLY: Final = Step(word="partially_delivered", says="SENT", after=(1, 30))
_THROTTLED: Final = Step(word="throttled", says=None)
_WARNED: Final = Step(word="sent", says="SENT", code="30007")


def _failed(code: str | None, text: str | None = None) -> Step:
    return Step(word="failed", says="FAILED", kind="failed", code=code, text=text, after=(0.5, 10))


def _undelivered(code: str, text: str | None = None) -> Step:
    return Step(word="undelivered", says="FAILED", kind="undelivered", code=code, text=text, after=(1, 60))


STORIES: Final = (
    Story(name="delivered", steps=(_QUEUED, _SENT, _DELIVERED), weight=30),
    Story(name="sent for ever", steps=(_QUEUED, _SENT), weight=3),
    Story(name="queued and silent", steps=(_QUEUED,)),
    Story(name="undelivered", steps=(_QUEUED, _SENT, _undelivered("30003")), weight=2),
    Story(name="not a subscriber", steps=(_SENT, _undelivered("30005"))),
    Story(name="failed", steps=(_QUEUED, _failed("30001")), weight=2),
    Story(name="failed without a code", steps=(_failed(None),)),
    Story(name="failed twice", steps=(_SENT, _undelivered("30006"), _undelivered("30003"))),
    Story(name="canceled", steps=(_CANCELED,)),
    Story(name="sent with a warning", steps=(_WARNED, _DELIVERED)),
    Story(name="delivered in part", steps=(_SENT, _PARTLY)),
    Story(name="a word nobody knows", steps=(_THROTTLED,)),
    Story(name="a word nobody knows, then sent", steps=(_THROTTLED, _SENT)),
    Story(name="streamed", steps=(_QUEUED, _SENT, _DELIVERED), way="events", weight=15),
    Story(name="streamed and undelivered", steps=(_QUEUED, _SENT, _undelivered("30005")), way="events", weight=2),
    Story(name="WhatsApp read", steps=(_SENT, _DELIVERED, _READ), way="whatsapp", channel="whatsapp", weight=3),
    Story(name="WhatsApp window closed", steps=(_undelivered("63016"),), way="whatsapp", channel="whatsapp"),
    Story(
        name="WhatsApp failed",
        steps=(_failed("63024", "Twilio Error: Invalid message recipient"),),
        way="whatsapp",
        channel="whatsapp",
    ),
    Story(name="RCS read", steps=(_SENT, _DELIVERED, _READ), way="rcs", weight=2),
    Story(name="undelivered, then delivered", steps=(_SENT, _undelivered("30008"), _DELIVERED), in_order=True),
    Story(name="delivered, then undelivered", steps=(_SENT, _DELIVERED, _undelivered("30008")), in_order=True),
    Story(name="undelivered and failed", steps=(_undelivered("30003"), _failed("30001")), in_order=True),
    Story(name="RCS delivered, failed, read", steps=(_DELIVERED, _failed("30008"), _READ), way="rcs", in_order=True),
)


def address(story: Story, told: Dice, ids: Ids, number: int) -> tuple[str, str]:
    return f"+120255501{told.randrange(100):02d}", f"SM{ids.text('sid', number)}"


def dated(story: Story, step: Step, happened_at: datetime, name: str, told: Dice) -> Dating:
    """Events have a time and an id. Callbacks have neither; some tell the carrier's own minute, of whatever zone."""
    if story.way == "events":
        return Dating(happened_at, event_id=f"EZ{name}")
    if step.says not in ("DELIVERED", "FAILED") or story.way or told.chance(0.3):
        return Dating(None)
    local = happened_at + timedelta(hours=told.randint(-8, 8))
    return Dating(None, date_text=local.strftime("%y%m%d%H%M"))


def requests(account: Account, reports: Sequence[Report], told: Dice) -> list[Request]:
    """Send each report by the way of its story, events in batches."""
    made: list[Request] = []
    events: list[Report] = []
    size = told.randint(1, BATCH_MAX)
    for report in reports:
        if report.message.story.way != "events":
            made.append(_callback(account, report, told))
            continue
        events.append(report)
        if len(events) == size:
            made.append(_stream(account, events, told))
            events, size = [], 1 if told.chance(0.4) else told.randint(2, BATCH_MAX)
    return [*made, _stream(account, events, told)] if events else made


def noise(account: Account, run: datetime, told: Dice) -> list[Request]:
    """A click on a shortened link, an inbound message, an event of another subscription, a status without a word."""
    click = {"event_type": "click", "sms_sid": "SM0", "link": "https://example.com/a?b=c"}
    inbound = {"MessageSid": "SM" + "0" * 32, "SmsStatus": "received", "From": "+12025550140", "Body": "Grüße"}
    wordless = {"MessageSid": "SM" + "0" * 32, "To": "+12025550140"}
    other = [{"specversion": "1.0", "type": "com.twilio.voice.insights", "id": "EZ1", "data": {"callSid": "CA1"}}]
    forms = [_signed_form(account, fields, (), told) for fields in (click, inbound, wordless)]
    return [*forms, _signed_json(account, json.dumps(other).encode(), (), told)]


def forged(account: Account, report: Report, told: Dice) -> list[Request]:
    """Claim a failure under another secret, under none, for another address, and with a field changed after signing."""
    fields = {**_fields(report), "MessageStatus": "failed", "ErrorCode": "30001"}
    body = urlencode(fields).encode()
    plain = {"Content-Type": "application/x-www-form-urlencoded"}
    wrong = _signature(b"a guess", account.public_url, fields)
    moved = _signature(account.secrets[0], "https://elsewhere.example.com/", fields)
    changed = _signature(account.secrets[0], account.public_url, {**fields, "MessageStatus": "delivered"})
    signatures = [{"X-Twilio-Signature": signature} for signature in (wrong, moved, changed)]
    return [Request(body=body, headers={**plain, **signature}) for signature in [*signatures, {}]]


def _callback(account: Account, report: Report, told: Dice) -> Request:
    query = f"ref=order%2F{report.message.number}" if told.chance(0.3) else ""
    return _signed_form(account, _fields(report), (report,), told, query)


def _fields(report: Report) -> dict[str, str]:
    message, step = report.message, report.step
    sid, way = message.provider_message_id or "", message.story.way
    prefix = f"{way}:" if way in ("whatsapp", "rcs") else ""
    fields = {
        "SmsSid": sid,
        "SmsStatus": step.word,
        "MessageStatus": step.word,
        "To": prefix + message.recipient,
        "MessageSid": sid,
        "AccountSid": _ACCOUNT_SID,
        "From": "rcs:brand_agent" if way == "rcs" else f"{prefix}+12025550100",
        "ApiVersion": "2010-04-01",
    }
    if prefix:
        masked = message.recipient[:-4] + "XXXX"
        fields |= {"ChannelPrefix": way, "ChannelToAddress": masked, "ChannelInstallSid": "XE" + "0" * 30 + "c1"}
        if step.word in ("read", "delivered"):
            fields["EventType"] = step.word.upper()
    if report.date_text:
        fields["RawDlrDoneDate"] = report.date_text
    if step.code:
        fields["ErrorCode"] = step.code
    if step.text:
        fields["ChannelStatusMessage"] = step.text
    return fields


def _stream(account: Account, reports: Sequence[Report], told: Dice) -> Request:
    body = json.dumps([_event(report) for report in reports], separators=(",", ":")).encode()
    return _signed_json(account, body, reports, told)


def _event(report: Report) -> dict[str, Any]:
    message, step = report.message, report.step
    at = report.told_at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if report.told_at else None
    data: dict[str, Any] = {
        "messageSid": message.provider_message_id,
        "timestamp": at,
        "accountSid": _ACCOUNT_SID,
        "eventName": _EVENT + step.word,
        "apiVersion": "2010-04-01",
        "from": "+12025550100",
        "to": message.recipient,
        "messageStatus": step.word.upper(),
    }
    if step.code:
        data["errorCode"] = int(step.code)
    return {
        "specversion": "1.0",
        "type": _EVENT + step.word,
        "source": f"/2010-04-01/Accounts/{_ACCOUNT_SID}/Messages/{message.provider_message_id}.json",
        "id": report.event_id,
        "dataschema": "https://events-schemas.twilio.com/Messaging.MessageStatus/8",
        "datacontenttype": "application/json",
        "time": at,
        "data": data,
    }


def _signed_form(
    account: Account, fields: Mapping[str, str], reports: Sequence[Report], told: Dice, query: str = ""
) -> Request:
    """Sign under the account's token, or now and then under a shared key, which means SHA-256."""
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8", "User-Agent": "TwilioProxy/1.1"}
    secret, url, algorithm = told.choice(account.secrets), _url(account, query), "sha1"
    if told.chance(0.1):
        algorithm = "sha256"
        headers["X-Twilio-Webhooks-Signature-Settings"] = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"
    headers["X-Twilio-Signature"] = _signature(secret, url, fields, algorithm)
    return Request(query=query, body=urlencode(fields).encode(), headers=headers, reports=reports)


def _signed_json(account: Account, body: bytes, reports: Sequence[Report], told: Dice) -> Request:
    query = f"bodySHA256={sha256(body).hexdigest()}"
    signature = _signature(told.choice(account.secrets), _url(account, query), {})
    headers = {"Content-Type": "application/json", "User-Agent": "TwilioProxy/1.1", "X-Twilio-Signature": signature}
    return Request(query=query, body=body, headers=headers, reports=reports)


def _url(account: Account, query: str) -> str:
    joint = "&" if "?" in account.public_url else "?"
    return f"{account.public_url}{joint}{query}" if query else account.public_url


def _signature(secret: bytes, url: str, fields: Mapping[str, str], algorithm: str = "sha1") -> str:
    message = url + "".join(f"{name}{fields[name]}" for name in sorted(fields))
    return b64encode(hmac.digest(secret, message.encode(), algorithm)).decode()

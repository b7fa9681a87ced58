"""Vonage: status webhooks of the Messages API, and delivery receipts of the older SMS API. Read on 2026-11-21:

https://developer.vonage.com/en/messages/concepts/messages-status-callbacks
https://developer.vonage.com/en/messaging/sms/guides/delivery-receipts
https://developer.vonage.com/en/getting-started/concepts/webhooks
https://developer.vonage.com/en/getting-started/concepts/signing-messages

What identifies a message: `message_uuid`, or `messageId` of a receipt; one recipient each, and in the SMS API one id a
part of a long message. What identifies a report across resends: nothing. Whose clock: `timestamp` with a zone; in a
receipt `message-timestamp`, UTC, when pushing began, while `scts` is the carrier's own date to the minute and stays
text. Order and duplicates: neither is promised; repeated for a day on 429 and 5xx only, so a 401 is final. A callback
that came without any signature is sent again with one if it is answered with a 5xx.

The Messages API signs with a token that names the digest of the body. Comparing that digest is our business: without
it, anybody who once saw a token could send any body.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import md5
from typing import Final, Literal

import msgspec
from msgspec import UNSET, Raw

from ledger.domain.observation import Claim, Observation
from ledger.domain.status import Channel, FailureKind, Status
from ledger.wire import asking, channels, decoding, instants, jwt, parameters, signature
from ledger.wire.contract import (
    Account,
    Ask,
    Known,
    Parsed,
    Polling,
    Polls,
    Provider,
    Webhook,
    claim_of,
)
from ledger.wire.decoding import ABSENT, loose, member
from ledger.wire.signature import Algorithm

CLAIMS: Final[Mapping[str, Claim]] = {
    "submitted": Claim(Status.SENT),  # passed on to the carrier or the messaging provider
    "delivered": Claim(Status.DELIVERED),
    "read": Claim(Status.READ),
    "rejected": Claim(Status.FAILED, FailureKind.FAILED),  # refused by Vonage or the provider; also a message too old
    "undeliverable": Claim(Status.FAILED, FailureKind.UNDELIVERED),  # the messaging provider could not be reached
    # Words of receipts only.
    "accepted": Claim(Status.QUEUED),
    "buffered": Claim(Status.SENT),
    "unknown": Claim(Status.SENT, closes=True),  # the carrier never said, and nothing follows
    "expired": Claim(Status.FAILED, FailureKind.UNDELIVERED),
    "failed": Claim(Status.FAILED, FailureKind.UNDELIVERED),
}

#: Channel and transport by `channel`, or by the type of an address in the 0.1 shape.
CHANNELS: Final = {
    **channels.COMMON,
    "viber_service": (Channel.VIBER, None),
    "viber_service_msg": (Channel.VIBER, None),
}
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
#: Repeats go on for a day, and nobody says whether a repeat is signed anew.
AGE_MAX: Final = timedelta(hours=25)
#: Digest of a receipt by the length of its signature. The dashboard's "MD5 hash" is no HMAC and has a row of its own.
METHODS: Final[Mapping[int, Algorithm]] = {32: "md5", 40: "sha1", 64: "sha256", 128: "sha512"}

_ERROR_TYPE: Final = re.compile(r"#([0-9]{1,8})\Z")


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    #: How receipts of the SMS API are signed, as chosen in the dashboard.
    signature_method: Literal["any", "md5hash", "md5", "sha1", "sha256", "sha512"] = "any"


class _Status(msgspec.Struct):
    message_uuid: object = UNSET  #: what a receipt of the SMS API does not have
    status: object = None
    timestamp: object = None
    channel: object = None
    to: object = None  #: a text, or in the 0.1 shape an object with `type` and `number` or `id`
    client_ref: object = None
    error: object = None
    whatsapp: object = None
    message_type: Raw = ABSENT  #: of an inbound message


_status: Final = decoding.lenient_reader(_Status, "body")


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read a status of the Messages API or a receipt of the SMS API. Raises Malformed for what is neither shape."""
    told = _status(webhook.body) if decoding.is_object(webhook) else None
    if told is None or told.message_uuid is UNSET:
        return decoding.single(webhook.content, lambda: _receipt(webhook))
    return decoding.single(webhook.body, lambda: _message(told, webhook.body))


def _message(told: _Status, body: bytes) -> Observation | None:
    uuid = decoding.required(decoding.identifier(told.message_uuid), "message_uuid")
    word = decoding.word(told.status)
    if word is None and decoding.is_present(told.message_type):
        return None
    word = decoding.required(word, "status")
    to = told.to
    kind = decoding.word(told.channel) or member(to, "type")
    channel, transport = channels.place_of(kind, CHANNELS)
    address = (
        decoding.identifier(to) or decoding.identifier(member(to, "number")) or decoding.identifier(member(to, "id"))
    )
    phone = decoding.phone_number(address) if address and (channel or not kind) else None  # other ids may look alike
    code, text = _error(told.error)
    return Observation(
        reference=uuid,
        provider_message_id=uuid,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.iso8601(told.timestamp),
        error_code=code,
        error_text=text,
        channel=channel,
        transport=transport,
        recipient=phone or address,
        recipient_raw=address,
        recipient_user_id=decoding.identifier(member(member(told.whatsapp, "recipient"), "user_id")),
        client_reference=decoding.text(told.client_ref),
        item=body,
    )


def _error(error: object) -> tuple[str | None, str | None]:
    """Return code and text of an error: `title` is the code, as number or text, or a text beside the code in `type`."""
    error = member(error, "error") or error  # nested twice by some
    title = decoding.identifier(member(error, "title"))
    code = title if title and title.strip().isdecimal() else decoding.identifier(member(error, "code"))
    if code is None and (kind := _ERROR_TYPE.search(decoding.word(member(error, "type")) or "")):
        code = kind[1]
    return code, decoding.text(member(error, "detail")) or decoding.text(member(error, "reason"))


def _receipt(webhook: Webhook) -> Observation | None:
    told = parameters.texts(webhook)
    reference, word = decoding.word(told.get("messageId")), decoding.word(told.get("status"))
    if word is None and "text" in told:  # an inbound message
        return None
    reference = decoding.required(reference, "messageId")
    word = decoding.required(word, "status")
    to = decoding.word(told.get("msisdn"))  # `to` is the sender
    code = decoding.word(told.get("err-code"))
    return Observation(
        reference=reference,
        provider_message_id=reference,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        occurred_at=instants.iso8601_utc(told.get("message-timestamp")),
        date_text=decoding.word(told.get("scts")),
        error_code=code if code and code.strip("0 ") else None,
        channel=Channel.SMS,
        recipient=decoding.recipient(to),
        recipient_raw=to,
        provider_account=decoding.word(told.get("api-key")),
        client_reference=decoding.text(told.get("client-ref")),
        item=webhook.content,
    )


def authenticate(webhook: Webhook, account: Account) -> bool:
    """Check the token and the digest of the body it names; without any token, the signature among the parameters."""
    secrets = signature.usable(account.secrets)
    tokens = webhook.headers.all("authorization")
    if tokens:
        return any(_is_token_good(token, webhook, secrets) for token in tokens)
    signed = _signed(webhook)
    is_fresh = signature.is_fresh(instants.unix_seconds(signed.told_at), webhook.received_at, AGE_MAX)
    if not signed.text or not is_fresh or len(signed.signatures) != 1:
        return False
    (given,) = signed.signatures
    return signature.matches_any(_digests(signed.text, secrets, len(given), account), [given.lower()])


def _is_token_good(header: bytes, webhook: Webhook, secrets: list[bytes]) -> bool:
    scheme, _, token = header.partition(b" ")
    claims = jwt.claims_of(token.strip(), secrets, ("HS256",)) if scheme.lower() == b"bearer" else None
    return (
        claims is not None
        and jwt.is_current(claims, webhook.received_at)
        and jwt.names_digest(claims, "payload_hash", webhook.content)
        and signature.is_fresh(instants.unix_seconds(claims.get(jwt.ISSUED)), webhook.received_at, AGE_MAX)
    )


def _signed(webhook: Webhook) -> parameters.Signed:
    return parameters.signed(webhook, signature=b"sig", time=b"timestamp")


def _digests(text: bytes, secrets: list[bytes], length: int, account: Account) -> Iterator[bytes]:
    options, algorithm = account.options, METHODS.get(length)
    wanted = options.signature_method if isinstance(options, Options) else "any"
    if algorithm == "md5" and wanted in ("any", "md5hash"):
        yield from (md5(text + secret, usedforsecurity=False).hexdigest().encode() for secret in secrets)
    if algorithm and wanted in ("any", algorithm):
        yield from (signature.hmac_hex(secret, text, algorithm) for secret in secrets)


def asks_again(webhook: Webhook, account: Account) -> bool:
    """Tell that a callback carries no signature at all: answered with a 5xx, it comes again with one."""
    return not webhook.headers.all("authorization") and not _signed(webhook).signatures


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return the signed part of the token and the digest it must name, or the parameters as they are signed."""
    token = webhook.headers.first("authorization")
    if token is not None:
        return token.partition(b" ")[2].rpartition(b".")[0] + b"\npayload_hash " + signature.sha256_hex(webhook.content)
    return _signed(webhook).text or None


# Asking ---------------------------------------------------------------------------------------------------------------


#: What the Messages API calls a message; the SMS API's ids are shorter.
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class _Answer(msgspec.Struct):
    records: list[Raw] | None = None


class _Record(msgspec.Struct):
    message_uuid: Raw = ABSENT
    message_id: Raw = ABSENT
    id: Raw = ABSENT
    direction: Raw = ABSENT
    status: Raw = ABSENT
    to: Raw = ABSENT
    error_code: Raw = ABSENT
    error_code_description: Raw = ABSENT
    client_ref: Raw = ABSENT
    date_finalized: Raw = ABSENT


_answer: Final = decoding.json_reader(_Answer, "answer")
_record: Final = decoding.json_reader(_Record, "records[]")


def ask(known: Known, polling: Polling) -> Ask:
    """Ask for the record of one message. Which of two products it belongs to shows in its id."""
    parameters = {
        "account_id": polling.account or "",
        "product": "MESSAGES" if _UUID.fullmatch(known.provider_message_id) else "SMS",
        "direction": "outbound",
        "id": known.provider_message_id,
    }
    return Ask(f"/v2/reports/records{asking.query(parameters)}", asking.basic(polling, polling.account))


def read(body: bytes, known: Known, account: Account) -> Parsed:
    """Read the records of an answer; none if there is no record yet."""
    batch = decoding.Batch()
    batch.observe(_answer(body).records or (), _of_record)
    return batch.parsed()


def _of_record(raw: Raw) -> Observation | None:
    told = _record(raw)
    if (decoding.word(loose(told.direction)) or "").strip().lower() == "inbound":
        return None
    names = (decoding.identifier(loose(each)) for each in (told.message_uuid, told.message_id, told.id))
    message_id = decoding.required(next(filter(None, names), None), "records[].message_id")
    word = decoding.required(decoding.word(loose(told.status)), "records[].status")
    to, code = decoding.identifier(loose(told.to)), decoding.identifier(loose(told.error_code))
    known_code = code if code and code.strip("0 ") else None
    return Observation(
        reference=message_id,
        provider_message_id=message_id,
        provider_status=word,
        claim=claim_of(CLAIMS, word),
        date_text=decoding.word(loose(told.date_finalized)),
        error_code=known_code,
        error_text=decoding.text(loose(told.error_code_description)) if known_code else None,
        recipient=decoding.recipient(to),
        recipient_raw=to,
        client_reference=decoding.text(loose(told.client_ref)),
        item=bytes(raw),
    )


POLLS: Final = Polls(base_url="https://api.nexmo.com", ask=ask, read=read, needs=frozenset({"account"}))


PROVIDER: Final = Provider(
    name="vonage",
    channels=frozenset({Channel.SMS, Channel.WHATSAPP, Channel.VIBER}),
    content_types=frozenset({JSON, FORM}),
    claims=CLAIMS,
    authenticate=authenticate,
    parse=parse,
    methods=frozenset({"POST", "GET"}),
    options=Options,
    asks_again=asks_again,
    signed_text=signed_text,
    polls=POLLS,
)

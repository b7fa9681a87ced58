"""Notifications of Amazon's SNS, a transport that providers use: envelope, signature, offers of a subscription.

Anybody can make SNS sign: a topic of their own suffices. So a signature counts only together with one of the topics
that an account names, and with a certificate from an address of SNS. Nothing here opens an address: certificates are
the account's secrets, or the edge hands them in. SNS repeats on 5xx and 429 as its delivery policy says; any other 4xx
is final, so a request whose certificate is not at hand yet is asked for again.
"""

import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Raw

from ledger.wire import decoding, public_keys, signature
from ledger.wire.contract import Account, Malformed, Webhook
from ledger.wire.decoding import ABSENT, loose

Texts = Mapping[str, str]

#: Values of `Type`.
NOTIFICATION, OFFER, FAREWELL = "Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"
#: Fields in the order in which they are signed. A subject that is absent is left out.
SIGNED: Final[Mapping[str, tuple[str, ...]]] = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    OFFER: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    FAREWELL: ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
#: By `SignatureVersion`.
VERIFIERS: Final = {"1": public_keys.rsa_sha1_matches, "2": public_keys.rsa_sha256_matches}

_HOST: Final = re.compile(r"sns\.[a-z0-9-]{3,32}\.amazonaws\.com(?:\.cn)?", re.ASCII)
_CERTIFICATE_PATH: Final = re.compile(r"/SimpleNotificationService-[0-9A-Za-z]{1,64}\.pem", re.ASCII)


class _Envelope(msgspec.Struct, rename="pascal"):
    type: Raw = ABSENT
    message_id: Raw = ABSENT
    topic_arn: Raw = ABSENT
    subject: Raw = ABSENT
    message: Raw = ABSENT
    timestamp: Raw = ABSENT
    token: Raw = ABSENT
    signature: Raw = ABSENT
    signature_version: Raw = ABSENT
    signing_cert_url: Raw = msgspec.field(name="SigningCertURL", default=ABSENT)
    subscribe_url: Raw = msgspec.field(name="SubscribeURL", default=ABSENT)


_envelope: Final = decoding.json_reader(_Envelope, "body")
_NAMES: Final = [(field.encode_name, field.name) for field in msgspec.structs.fields(_Envelope)]


def texts(body: bytes) -> Texts:
    """Return the texts of an envelope by the names they have there. Raises Malformed for no JSON object."""
    envelope = _envelope(body)
    values = {told: loose(getattr(envelope, name)) for told, name in _NAMES}
    return {name: value for name, value in values.items() if isinstance(value, str)}


def is_authentic(webhook: Webhook, account: Account, topics: Collection[str]) -> bool:
    """Check topic, address of the certificate, and the RSA signature under a certificate that is at hand."""
    told = _texts_or_none(webhook.body)
    text, given = _signed(told), signature.unbase64(told.get("Signature", "").encode("utf-8", "replace"))
    verifier = VERIFIERS.get(told.get("SignatureVersion", ""))
    if text is None or verifier is None or not given or not _is_expected(told, topics):
        return False
    return verifier(_certificates(account, told["SigningCertURL"]), text, given)


def is_undecided(webhook: Webhook, account: Account, topics: Collection[str]) -> bool:
    """Tell that a request of an expected topic cannot be judged yet: its certificate is not at hand."""
    told = _texts_or_none(webhook.body)
    if account.certificates is None or _signed(told) is None or not _is_expected(told, topics):
        return False
    return not _certificates(account, told["SigningCertURL"])


def signed_text(webhook: Webhook, account: Account) -> bytes | None:
    """Return names and values of the signed fields, each on a line of its own."""
    return _signed(_texts_or_none(webhook.body))


def check_secret(secret: bytes, account: Account) -> str | None:
    """Say what is wrong with a secret that is no certificate."""
    return None if public_keys.rsa_key(secret) else "is no PEM certificate with an RSA key of at least 2048 bits"


def confirm_url(told: Texts) -> str | None:
    """Return the address that accepts an offer, if it is one of SNS that does nothing else."""
    url = told.get("SubscribeURL", "")
    query = _query_at_sns(url)
    if told.get("Type") != OFFER or query is None:
        return None
    asked = parse_qs(query)
    accepts = asked.get("Action") == ["ConfirmSubscription"] and asked.get("TopicArn") == [told.get("TopicArn")]
    return url if accepts else None


def _texts_or_none(body: bytes) -> Texts:
    try:
        return texts(body)
    except Malformed:
        return {}


def _signed(told: Texts) -> bytes | None:
    names = SIGNED.get(told.get("Type", ""))
    if names is None or any(name not in told for name in names if name != "Subject"):
        return None
    return "".join(f"{name}\n{told[name]}\n" for name in names if name in told).encode("utf-8", "replace")


def _is_expected(told: Texts, topics: Collection[str]) -> bool:
    url = told.get("SigningCertURL", "")
    return told.get("TopicArn") in topics and _query_at_sns(url, _CERTIFICATE_PATH) is not None


def _certificates(account: Account, url: str) -> list[bytes]:
    """Return the account's own certificates; without any, the one at an address of SNS, as soon as it is at hand."""
    own = signature.usable(account.secrets)
    fetched = account.certificates(url) if account.certificates is not None and not own else None
    return own if fetched is None else [fetched]


def _query_at_sns(url: str, path: re.Pattern[str] | None = None) -> str | None:
    """Return the query of an address at SNS, None for any other address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    is_there = parts.scheme == "https" and _HOST.fullmatch(parts.netloc) and url.isascii() and url.isprintable()
    return parts.query if is_there and (path is None or path.fullmatch(parts.path)) else None

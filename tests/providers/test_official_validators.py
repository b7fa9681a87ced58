"""What the providers' own libraries say of a signature, and what we say.

Each play makes a request with drawn contents, signs it by the provider's recipe, spoils it in one way, and asks the
library. Both have to accept what is not spoilt and to refuse what is. Requests are signed at the present time, because
the libraries read the clock. Where a library is known to be wrong a test of its own says so.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from messagebird.error import ValidationError as MessageBirdError
from messagebird.request_validator import RequestValidator as MessageBirdValidator
from plivo.utils import validate_signature, validate_v3_signature
from sinch.domains.authentication.sinch_events.v1.authentication_validation import (
    validate_sinch_event_signature_with_nonce,
)
from standardwebhooks import Webhook as StandardWebhook
from standardwebhooks.webhooks import WebhookVerificationError as StandardError
from telnyx.lib.webhook_verification import WebhookVerificationError as TelnyxError
from telnyx.lib.webhook_verification import verify_webhook_signature
from twilio.request_validator import RequestValidator as TwilioValidator
from viberbot import Api, BotConfiguration
from vonage_http_client import Auth
from vonage_jwt import VonageVerifyJwtError, verify_signature

from ledger.providers import PROVIDERS
from ledger.wire.contract import Account, Webhook
from tests.providers.requests import BASE_URL, a_webhook, an_account
from tests.providers.senders_more import FORM, JSON, a_token, configured_whsec, plivo_text

#: Long enough for every algorithm that is drawn.
SECRET = "a secret made up for tests, long enough for HMAC with SHA-512 as well"
ANOTHER = "another secret made up for tests, which is long enough for all of them"
#: Texts that UTF-8 can hold; a request that cannot be text is none to the libraries, which take texts.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_~", min_size=1, max_size=20)
#: The form's own blank and the signs that it has to escape.
VALUES = st.one_of(TEXTS, st.text("a &=+%/?#._", max_size=12))
OLD, NEW = -3_600, 3_600


class Played(NamedTuple):
    """A request, and what the provider's library says of it."""

    webhook: Webhook
    account: Account
    official: bool


Draw = Callable[[st.SearchStrategy[Any]], Any]
Play = Callable[[Draw, str], Played]


def now() -> int:
    return int(time.time())


def request(body: bytes, headers: dict[str, str], url: str = BASE_URL, method: str = "POST") -> Webhook:
    return a_webhook(body, headers, url, method, received_at=datetime.now(UTC))


def says(judge: Callable[[], Any], *refusals: type[Exception]) -> bool:
    """Tell whether a library accepts, however it says so."""
    try:
        return judge() is not False
    except refusals:
        return False


def digest(secret: str, message: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.new(secret.encode(), message, algorithm).digest()


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def secret_of(spoil: str) -> str:
    return ANOTHER if spoil == "secret" else SECRET


def private_key(label: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(label.encode()).digest())


def body_of(draw: Draw) -> str:
    return json.dumps({"text": draw(TEXTS)}, ensure_ascii=draw(st.booleans()))


def unsigned(claims: dict[str, Any]) -> str:
    """Return a token that claims to need no signature."""
    return a_token(b"", claims, alg="none").rpartition(".")[0] + "."


def other_bytes(draw: Draw, count: int) -> bytes:
    """Return a signature that is well formed and somebody else's."""
    return draw(st.binary(min_size=count, max_size=count))


# Standard Webhooks ----------------------------------------------------------------------------------------------------


def standardwebhooks(draw: Draw, spoil: str) -> Played:
    """Names with a dot are not drawn: the library accepts them, and the specification does not."""
    body, name, at = body_of(draw), draw(WORDS), now() + {"old": OLD, "new": NEW}.get(spoil, 0)
    secret = configured_whsec(secret_of(spoil).encode()).decode()
    good = StandardWebhook(secret).sign(name, datetime.fromtimestamp(at, UTC), body)
    others = draw(st.lists(st.sampled_from(["v2,AAAA", "v1a,AAAA", f"v1,{encoded(bytes(32))}"]), max_size=3))
    entries = draw(st.permutations(others if spoil == "signature" else [*others, good]))
    headers = {"webhook-id": name, "webhook-timestamp": str(at), "webhook-signature": " ".join(entries)}
    missing = {"no id": "webhook-id", "no time": "webhook-timestamp", "no signature": "webhook-signature"}.get(spoil)
    told = {key: value for key, value in headers.items() if key != missing}
    body += " " if spoil == "body" else ""
    configured = configured_whsec(SECRET.encode()).decode()
    official = says(
        lambda: StandardWebhook(configured).verify(body.encode(), told, json_parse=False), StandardError, ValueError
    )
    return Played(request(body.encode(), {**JSON, **told}), an_account("standardwebhooks", configured), official)


# Telnyx ---------------------------------------------------------------------------------------------------------------


def telnyx(draw: Draw, spoil: str) -> Played:
    body, at = body_of(draw), str(now() + {"old": OLD, "new": NEW}.get(spoil, 0))
    signature = private_key(secret_of(spoil)).sign(f"{at}|{body}".encode())
    signature = other_bytes(draw, 64) if spoil == "signature" else signature
    headers = {"telnyx-signature-ed25519": encoded(signature), "telnyx-timestamp": at}
    if spoil == "no time":
        del headers["telnyx-timestamp"]
    body += " " if spoil == "body" else ""
    key = encoded(private_key(SECRET).public_key().public_bytes_raw())
    official = says(lambda: verify_webhook_signature(body.encode(), headers, key), TelnyxError)
    return Played(request(body.encode(), {**JSON, **headers}), an_account("telnyx", key), official)


# Sinch ----------------------------------------------------------------------------------------------------------------


def sinch(draw: Draw, spoil: str) -> Played:
    """Old signatures are not drawn: the library has no opinion about time."""
    body, nonce, at = body_of(draw), draw(WORDS), str(now())
    signature = digest(secret_of(spoil), f"{body}.{nonce}.{at}".encode())
    headers = {
        "x-sinch-webhook-signature": encoded(other_bytes(draw, 32) if spoil == "signature" else signature),
        "x-sinch-webhook-signature-nonce": nonce + ("x" if spoil == "nonce" else ""),
        "x-sinch-webhook-signature-timestamp": at,
    }
    if spoil == "no signature":
        del headers["x-sinch-webhook-signature"]
    body += " " if spoil == "body" else ""
    official = validate_sinch_event_signature_with_nonce(SECRET, headers, body)
    return Played(request(body.encode(), {**JSON, **headers}), an_account("sinch", SECRET), official)


# MessageBird ----------------------------------------------------------------------------------------------------------


def messagebird(draw: Draw, spoil: str) -> Played:
    by_get = draw(st.booleans())
    query = urlencode({"id": draw(WORDS), "reference": draw(VALUES), "status": "delivered"})
    body = b"" if by_get else body_of(draw).encode()
    url = f"{BASE_URL}?{query}" if by_get else BASE_URL
    at = now() + {"old": OLD, "new": NEW}.get(spoil, 0)
    claims = {
        "iss": "Somebody" if spoil == "issuer" else "MessageBird",
        "nbf": at - 1,
        "exp": at + 60,
        "jti": "1",
        "url_hash": hashlib.sha256(url.encode()).hexdigest(),
        **({} if by_get else {"payload_hash": hashlib.sha256(body).hexdigest()}),
    }
    claims.pop({"no end": "exp", "no beginning": "nbf", "no issuer": "iss"}.get(spoil, ""), None)
    algorithm = draw(st.sampled_from(["HS256", "HS384", "HS512"]))
    token = a_token(secret_of(spoil).encode(), claims, algorithm)
    token = unsigned(claims) if spoil == "algorithm" else token
    url += ("&" if by_get else "?") + "x=1" if spoil == "url" else ""
    body += b" " if spoil == "body" else b""
    official = says(
        lambda: MessageBirdValidator(SECRET).validate_signature(token, url, body), MessageBirdError, KeyError
    )
    headers = {**({} if by_get else JSON), "MessageBird-Signature-JWT": token}
    method = "GET" if by_get else "POST"
    return Played(request(body, headers, url, method), an_account("messagebird", SECRET), official)


# Vonage ---------------------------------------------------------------------------------------------------------------


def vonage(draw: Draw, spoil: str) -> Played:
    """A body that was changed is not drawn: the library does not look at it. See the test below."""
    body = body_of(draw).encode()
    claims = {"iat": now() - draw(st.integers(0, 3_600)), "jti": draw(WORDS), "iss": "Vonage"}
    claims |= {"payload_hash": hashlib.sha256(body).hexdigest()}
    claims |= {"over": {"exp": now() - 60}, "not begun": {"nbf": now() + 3_600}}.get(spoil, {})
    token = a_token(secret_of(spoil).encode(), claims, "HS384" if spoil == "algorithm" else "HS256")
    token = unsigned(claims) if spoil == "no algorithm" else token
    token = token[:-5] + draw(st.sampled_from(["AAAAA", "____4"])) if spoil == "signature" else token
    official = says(lambda: verify_signature(token, SECRET), VonageVerifyJwtError)
    return Played(request(body, {**JSON, "Authorization": f"Bearer {token}"}), an_account("vonage", SECRET), official)


#: Names with a meaning of their own, in a receipt and in what is done to it here.
RECEIPT_NAMES = frozenset({"messageId", "status", "timestamp", "sig", "zzz-more"})


def vonage_receipt(draw: Draw, spoil: str) -> Played:
    """The simple MD5 hash is not drawn: the library knows HMAC only."""
    others = st.dictionaries(WORDS.filter(lambda name: name not in RECEIPT_NAMES), VALUES, max_size=4)
    told = {"messageId": draw(WORDS), "status": "delivered", **draw(others)}
    told["timestamp"] = str(now())
    method = draw(st.sampled_from(["md5", "sha1", "sha256", "sha512"]))

    def library(secret: str) -> Auth:
        return Auth(api_key="k", signature_secret=secret, signature_method=method)

    signature = library(secret_of(spoil)).sign_params(dict(told))
    signature = other_bytes(draw, len(signature) // 2).hex() if spoil == "signature" else signature
    signed = {**told, "sig": signature.upper() if draw(st.booleans()) else signature}
    if spoil == "field":
        signed["status"] = "failed"
    if spoil == "another field":
        signed["zzz-more"] = draw(VALUES)
    official = library(SECRET).check_signature(dict(signed))
    way = draw(st.sampled_from(["form", "query", "json"]))
    if way == "query":
        webhook = request(b"", {}, f"{BASE_URL}?{urlencode(signed)}", "GET")
    else:
        body = json.dumps(signed) if way == "json" else urlencode(signed)
        webhook = request(body.encode(), JSON if way == "json" else FORM)
    return Played(webhook, an_account("vonage", SECRET), official)


# Plivo ----------------------------------------------------------------------------------------------------------------

#: The library reads a query byte by byte, so only ASCII is the same to both.
ASCII = st.text("abcXYZ019 &=+%/?#._-", max_size=12)


def plivo(draw: Draw, spoil: str) -> Played:
    by_get, nonce = draw(st.booleans()), draw(WORDS)
    query = urlencode(draw(st.dictionaries(WORDS, ASCII, max_size=3)))
    told = draw(st.dictionaries(WORDS, ASCII if by_get else VALUES, min_size=1, max_size=4))
    url = f"{BASE_URL}?{query}" if query else BASE_URL
    if by_get:
        url += ("&" if query else "?") + urlencode(told)
    method, parameters = ("GET", None) if by_get else ("POST", told)
    signature = plivo_signature(url, nonce, secret_of(spoil), parameters)
    signature = encoded(other_bytes(draw, 32)) if spoil == "signature" else signature
    signature = draw(st.sampled_from(["{}", "AAAA,{}", "{},AAAA"])).format(signature)
    if spoil == "field":
        told = {**told, "zzz-more": "1"}
        url += "&zzz-more=1" if by_get else ""
    nonce += "x" if spoil == "nonce" else ""
    official = validate_v3_signature(method, url, nonce, SECRET, signature, None if by_get else dict(told))
    headers = {"X-Plivo-Signature-V3": signature, "X-Plivo-Signature-V3-Nonce": nonce}
    body = b"" if by_get else urlencode(told).encode()
    return Played(
        request(body, headers if by_get else {**FORM, **headers}, url, method), an_account("plivo", SECRET), official
    )


def plivo_signature(url: str, nonce: str, secret: str, parameters: dict[str, str] | None) -> str:
    """Sign by the documented recipe: the library only verifies."""
    body = urlencode(parameters).encode() if parameters else b""
    return encoded(digest(secret, plivo_text(url, body, nonce)))


def plivo_without_parameters(draw: Draw, spoil: str) -> Played:
    nonce = draw(WORDS)
    query = urlencode(draw(st.dictionaries(WORDS, VALUES, max_size=3)))
    url = f"{BASE_URL}?{query}" if query else BASE_URL
    signature = encoded(digest(secret_of(spoil), f"{BASE_URL}{nonce}".encode()))
    signature = encoded(other_bytes(draw, 32)) if spoil == "signature" else signature
    nonce += "x" if spoil == "nonce" else ""
    official = validate_signature(url, nonce, signature, SECRET)
    headers = {**FORM, "X-Plivo-Signature-V2": signature, "X-Plivo-Signature-V2-Nonce": nonce}
    return Played(request(b"MessageUUID=1", headers, url), an_account("plivo", SECRET), official)


# Twilio, Viber --------------------------------------------------------------------------------------------------------


class Several(dict[str, list[str]]):
    """A form with repeated names, as web frameworks hand it to the library."""

    def getlist(self, name: str) -> list[str]:
        return self[name]


def twilio(draw: Draw, spoil: str) -> Played:
    query = urlencode(draw(st.dictionaries(WORDS, VALUES, max_size=2)))
    port = draw(st.sampled_from(["", ":443", ":8443"]))
    base = f"https://ledger.example.com{port}/hooks"
    url = f"{base}?{query}" if query else base
    told = Several(draw(st.dictionaries(WORDS, st.lists(VALUES, min_size=1, max_size=3), min_size=1, max_size=4)))
    shared = draw(st.booleans())
    algorithm = "HMAC_SHA256" if shared else None
    signed = url.replace(":443", "") if draw(st.booleans()) and port == ":443" else url
    signature = TwilioValidator(secret_of(spoil)).compute_signature(signed, told, algorithm)
    signature = encoded(other_bytes(draw, 32 if shared else 20)) if spoil == "signature" else signature
    if spoil == "field":
        told["zzz-more"] = ["1"]
    url += ("&" if query else "?") + "x=1" if spoil == "url" else ""
    official = TwilioValidator(SECRET).validate(url, told, signature, algorithm)
    headers = {**FORM, "X-Twilio-Signature": signature}
    if shared:
        headers["X-Twilio-Webhooks-Signature-Settings"] = f"key=webhooks_sharedkey_1,algorithm={algorithm}"
    body = urlencode([(name, value) for name, values in told.items() for value in values]).encode()
    return Played(request(body, headers, url), an_account("twilio", SECRET, public_url=base), official)


def viber(draw: Draw, spoil: str) -> Played:
    body = body_of(draw).encode()
    signature = digest(secret_of(spoil), body).hex()
    signature = other_bytes(draw, 32).hex() if spoil == "signature" else signature
    body += b" " if spoil == "body" else b""
    official = Api(BotConfiguration(name="n", avatar="", auth_token=SECRET)).verify_signature(body, signature)
    headers = {**JSON, "X-Viber-Content-Signature": signature}
    return Played(request(body, headers), an_account("viber", SECRET), official)


#: What can be spoilt in each play.
PLAYS: dict[Play, list[str]] = {
    standardwebhooks: ["secret", "body", "signature", "old", "new", "no id", "no time", "no signature"],
    telnyx: ["secret", "body", "signature", "old", "new", "no time"],
    sinch: ["secret", "body", "signature", "nonce", "no signature"],
    messagebird: [
        *("secret", "body", "url", "old", "new", "algorithm"),
        *("issuer", "no issuer", "no end", "no beginning"),
    ],
    vonage: ["secret", "signature", "algorithm", "no algorithm", "over", "not begun"],
    vonage_receipt: ["secret", "signature", "field", "another field"],
    plivo: ["secret", "signature", "field", "nonce"],
    plivo_without_parameters: ["secret", "signature", "nonce"],
    twilio: ["secret", "signature", "field", "url"],
    viber: ["secret", "signature", "body"],
}
each_play = pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__)
each_spoilt_play = pytest.mark.parametrize(
    ("play", "spoil"),
    [pytest.param(play, spoil, id=f"{play.__name__}-{spoil}") for play in PLAYS for spoil in PLAYS[play]],
)


def verdicts(played: Played) -> tuple[bool, bool]:
    account = played.account
    return played.official, PROVIDERS[account.provider].authenticate(played.webhook, account)


@each_play
@given(data=st.data())
def test_the_providers_library_and_we_accept_what_is_signed(play: Play, data: st.DataObject) -> None:
    assert verdicts(play(data.draw, "")) == (True, True)


@each_spoilt_play
@given(data=st.data())
def test_the_providers_library_and_we_refuse_what_is_spoilt(play: Play, spoil: str, data: st.DataObject) -> None:
    assert verdicts(play(data.draw, spoil)) == (False, False)


# Where a library is wrong ---------------------------------------------------------------------------------------------


@given(body=TEXTS.map(str.encode))
def test_vonages_library_accepts_any_body_beside_a_genuine_token_and_we_do_not(body: bytes) -> None:
    genuine = hashlib.sha256(b"the body that was signed").hexdigest()
    token = a_token(SECRET.encode(), {"iat": now(), "iss": "Vonage", "payload_hash": genuine})
    webhook = request(body, {**JSON, "Authorization": f"Bearer {token}"})

    assert verify_signature(token, SECRET)
    assert not PROVIDERS["vonage"].authenticate(webhook, an_account("vonage", SECRET))


def test_the_library_of_standard_webhooks_accepts_a_name_with_a_dot_and_we_do_not() -> None:
    secret, at = configured_whsec(SECRET.encode()).decode(), now()
    signature = StandardWebhook(secret).sign("msg.1", datetime.fromtimestamp(at, UTC), "{}")
    headers = {"webhook-id": "msg.1", "webhook-timestamp": str(at), "webhook-signature": signature}

    assert StandardWebhook(secret).verify(b"{}", headers) == {}
    assert not PROVIDERS["standardwebhooks"].authenticate(
        request(b"{}", {**JSON, **headers}), an_account("standardwebhooks", secret)
    )


def test_the_library_of_standard_webhooks_stumbles_over_a_signature_without_a_version_and_we_do_not() -> None:
    secret, at = configured_whsec(SECRET.encode()).decode(), now()
    signature = StandardWebhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), "{}")
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": f"odd {signature}"}

    with pytest.raises(ValueError, match="unpack"):
        StandardWebhook(secret).verify(b"{}", headers)
    assert PROVIDERS["standardwebhooks"].authenticate(
        request(b"{}", {**JSON, **headers}), an_account("standardwebhooks", secret)
    )

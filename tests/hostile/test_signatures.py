"""Signatures that are nearly right, of another kind, or somebody else's: over a socket, to every provider's account.

Refused is 401 and nothing on record. The same request with its own signature is taken: nothing else is wrong with it.
"""

import base64
import hashlib
import hmac
from typing import Any

import msgspec
import pytest

from tests.hostile.conftest import Target
from tests.hostile.wire import CLOSE, as_sent, request, status
from tests.http.callbacks import found
from tests.http.test_provider_requests import BY_NAME, name_of
from tests.providers.requests import BASE_URL, header_pairs
from tests.providers.senders import sign_twilio_form
from tests.providers.webhook_cases import CASES, Case

each_case = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
#: Letters that look like those of hexadecimal and base64, and are others.
LOOK_ALIKES = str.maketrans("aceopx=", "\u0430\u0441\u0435\u043e\u0440\u0445\uff1d") | {
    ord("0") + digit: 0xFF10 + digit for digit in range(10)
}


def sent(target: Target, case: Case, webhook: Any) -> int:
    return status(target.service, as_sent(name_of(case), webhook))


def taken(target: Target, case: Case, message_id: str) -> int:
    channels = sorted(case.provider.channels)
    return sum(len(found(target.service.api(name_of(case), channel), message_id)) for channel in channels)


def odd_forms(case: Case, good: bytes) -> dict[str, list[bytes]]:
    """Return signatures that somebody careless would take for the good one."""
    text = good.decode("latin-1")
    forms = {
        "none": [],
        "empty": [b""],
        "cut by one": [good[:-1]],
        "cut in half": [good[: len(good) // 2]],
        "the beginning": [good[:5]],
        "with NUL": [good + b"\x00"],
        "with more": [good + good],
        "letters that look alike": [text.translate(LOOK_ALIKES).encode()],
        "full-width and UTF-16": [text.encode("utf-16-le")],
        "several that are wrong": [good[:-1], b"x", good + b"x", b""],
        "joined by commas": [b",".join([good[:-2], b"x"])],
    }
    return forms if case.either_case else {**forms, "the other case": [good.swapcase()]}


@each_case
def test_a_signature_that_is_nearly_right_is_refused(target: Target, case: Case) -> None:
    webhook = case.request(case.item("9101", "sent"))
    good = case.signature(webhook)

    for name, signatures in odd_forms(case, good).items():
        answer = sent(target, case, case.resign(webhook, *signatures))

        # A NUL in a header or a target is no HTTP; who signs nothing at all is asked to come again where that helps.
        assert answer in (400, 401) or (case.provider.asks_again is not None and answer == 503), name
        assert taken(target, case, "9101") == 0, name
    assert sent(target, case, webhook) == 200
    assert taken(target, case, "9101") == 1


@each_case
@pytest.mark.parametrize("secret", [b"", b"Secret", b"secret ", b"s", b"null", b"None", b"another"])
def test_a_signature_of_another_secret_is_refused(target: Target, case: Case, secret: bytes) -> None:
    webhook = case.request(case.item("9102", "sent"), secret=secret)

    assert sent(target, case, webhook) in (401, 503 if case.provider.asks_again is not None else 401)
    assert taken(target, case, "9102") == 0


#: How a provider's digest is written, of any algorithm: (case, header, what the header says of a digest).
DIGESTS = [
    ("meta", lambda digest: b"sha256=" + digest.hex().encode()),
    ("viber", lambda digest: digest.hex().encode()),
    ("twilio callback", base64.b64encode),
    ("sinch message", base64.b64encode),
    ("bird channels", base64.b64encode),
    ("plivo", base64.b64encode),
    ("standardwebhooks v1", lambda digest: b"v1," + base64.b64encode(digest)),
]
#: What each of them is due.
DUE = {"twilio callback": "sha1"}


@pytest.mark.parametrize(("name", "written"), DIGESTS, ids=[name for name, _ in DIGESTS])
@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha384", "sha512"])
def test_a_digest_of_another_algorithm_is_refused(target: Target, name: str, written: Any, algorithm: str) -> None:
    """The right secret and the right text, so that the algorithm alone is wrong."""
    case = BY_NAME[name]
    webhook = case.request(case.item("9103", "sent"))
    account = case.account("secret")
    assert case.provider.signed_text is not None
    text = case.provider.signed_text(webhook, account)
    assert text is not None
    key = base64.b64decode(account.secrets[0].reveal()[6:]) if name.startswith("standard") else b"secret"
    signature = written(hmac.digest(key, text, algorithm))

    answer = sent(target, case, case.resign(webhook, signature))

    assert answer == (200 if algorithm == DUE.get(name, "sha256") else 401)


@pytest.mark.parametrize(
    "header",
    [
        (b"x-hub-signature", b"sha1=%s"),
        (b"x-hub-signature-256", b"sha1=%s"),
        (b"x-hub-signature-256", b"sha256=%s"),
        (b"x-hub-signature-256", b"%s"),
    ],
)
def test_the_older_signature_of_meta_proves_nothing(target: Target, header: tuple[bytes, bytes]) -> None:
    case = BY_NAME["meta"]
    webhook = case.request(case.item("wamid.9104", "sent"))
    digest = hmac.new(b"secret", webhook.body, hashlib.sha1).hexdigest().encode()
    pairs = [pair for pair in header_pairs(webhook) if not pair[0].startswith(b"x-hub")]

    answer = request(b"POST", b"/webhooks/meta", [*pairs, (header[0], header[1] % digest), CLOSE], webhook.body)

    assert status(target.service, answer) == 401
    assert taken(target, case, "wamid.9104") == 0


# Whose address was signed ---------------------------------------------------------------------------------------------

SPOOFED = "https://mallory.example/hooks/status"
SPOOFS = (
    (b"host", b"mallory.example"),
    (b"x-forwarded-host", b"mallory.example"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-prefix", b"/hooks"),
    (b"x-original-url", b"/hooks/status"),
    (b"x-rewrite-url", b"/hooks/status"),
    (b"forwarded", b"host=mallory.example;proto=https"),
)


@pytest.mark.parametrize("target_form", [b"/webhooks/%s", b"https://mallory.example/webhooks/%s"], ids=["path", "full"])
def test_only_the_configured_address_counts_for_a_signature(target: Target, target_form: bytes) -> None:
    """Twilio signs the address it calls: a host that a request names must be neither believed nor held against it."""
    case, body = BY_NAME["twilio callback"], b"MessageSid=SM%s&MessageStatus=sent"
    path = target_form % name_of(case).encode()
    ours = sign_twilio_form(body % b"9105", b"secret")
    theirs = at_address(sign_twilio_form(body % b"9106", b"secret"), SPOOFED)

    answers = [
        status(target.service, as_sent(name_of(case), webhook, [*SPOOFS, CLOSE], target=path))
        for webhook in (ours, theirs)
    ]

    assert answers == [200, 401]
    assert (taken(target, case, "SM9105"), taken(target, case, "SM9106")) == (1, 0)


def at_address(webhook: Any, url: str) -> Any:
    """Sign a Twilio form for another address than the configured one."""
    text = BY_NAME["twilio callback"].provider.signed_text(webhook, BY_NAME["twilio callback"].account("secret"))
    assert text.startswith(BASE_URL.encode())
    digest = hmac.digest(b"secret", text.replace(BASE_URL.encode(), url.encode()), "sha1")
    case = BY_NAME["twilio callback"]
    return msgspec.structs.replace(case.resign(webhook, base64.b64encode(digest)), url=url)

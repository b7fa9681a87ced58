"""What Twilio signs: the URL as configured, every form field, the digest of a JSON body; and under which key."""

import base64
import hashlib
import hmac
import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.providers.twilio import PROVIDER
from ledger.wire.contract import Webhook
from tests.providers.webhook_cases import (
    BASE_URL,
    a_webhook,
    an_account,
    encode_form,
    sign_twilio_events,
    sign_twilio_form,
    twilio_event,
    twilio_form,
)

FORM = "application/x-www-form-urlencoded"
SDK_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
SDK_FIELDS = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Caller", "+14158675309"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
]
OWN_URL = "https://ledger.example.com/hooks/twilio/status?ref=order%2F42"
OWN_FIELDS = [
    ("AccountSid", "AC000000000000000000000000000000a1"),
    ("From", "+12025550100"),
    ("MessageSid", "SM00000000000000000000000000000001"),
    ("MessageStatus", "delivered"),
    ("To", "+12025550111"),
]
JSON_BODY = b'{"property": "value", "boolean": true}'
JSON_DIGEST = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
SHARED_KEY = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"


def is_authentic(webhook: Webhook, *secrets: str) -> bool:
    return PROVIDER.authenticate(webhook, an_account("twilio", *(secrets or ("12345",))))


def a_form(fields: object, signature: str, url: str = SDK_URL, **headers: str) -> Webhook:
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()  # type: ignore[arg-type]
    return a_webhook(body, {"Content-Type": FORM, "X-Twilio-Signature": signature, **headers}, url)


def sign(message: str, algorithm: str = "sha1", key: str = "12345") -> str:
    return base64.b64encode(hmac.new(key.encode(), message.encode(), algorithm).digest()).decode()


# Known signatures


@pytest.mark.parametrize(
    ("fields", "url", "signature"),
    [
        (SDK_FIELDS, SDK_URL, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (
            [(name, value.replace("5309", "5310")) for name, value in SDK_FIELDS],
            SDK_URL.replace("mycompany", "example"),
            "L/OH5YylLD5NRKLltdqwSvS0BnU=",
        ),
        (
            [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")],
            SDK_URL,
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        ),
        (SDK_FIELDS, SDK_URL, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        (SDK_FIELDS, SDK_URL.replace("https", "http"), "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        (OWN_FIELDS, OWN_URL, "+NOFLsWCabjy72YuK4b8SpggAVA="),
    ],
    ids=["plain", "documentation", "repeated names", "port 443 added", "port 80 added", "query"],
)
def test_the_known_signatures_of_forms_are_accepted(fields, url, signature):
    assert is_authentic(a_form(fields, signature, url))
    assert not is_authentic(a_form(fields, signature, url), "12346")


def test_the_known_signature_of_a_json_body_is_accepted():
    url = f"{SDK_URL}&bodySHA256={JSON_DIGEST}"
    headers = {"Content-Type": "application/json", "X-Twilio-Signature": "a9nBmqA0ju/hNViExpshrM61xv4="}

    assert is_authentic(a_webhook(JSON_BODY, headers, url))


def test_the_known_signature_under_a_shared_key_is_accepted():
    signature = "IaIiWtW0EUt9i3IEY+rC7tm51+/q9a4YvbCutl1eftM="

    assert is_authentic(a_form(OWN_FIELDS, signature, OWN_URL, **{"X-Twilio-Webhooks-Signature-Settings": SHARED_KEY}))


# What is signed


@given(st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)).filter(any), max_size=8), st.randoms())
def test_any_order_and_any_repetition_of_the_same_fields_is_authentic(fields, random):
    encodable = [(n, v) for n, v in fields if not any("\ud800" <= letter <= "\udfff" for letter in n + v)]
    byte_order = sorted({(n.encode(), v.encode()) for n, v in encodable})
    signature = sign(SDK_URL + b"".join(n + v for n, v in byte_order).decode())
    again = encodable * 2
    random.shuffle(again)

    assert is_authentic(a_form(again, signature))


def test_blank_values_are_signed():
    fields = [("A", ""), ("B", "2")]

    assert is_authentic(a_form(fields, sign(SDK_URL + "AB2")))
    assert not is_authentic(a_form(fields, sign(SDK_URL + "B2")))


def test_plus_and_percent_are_signed_decoded_and_nothing_is_trimmed():
    message = f"{SDK_URL}Body a+b ü\r\n"

    assert is_authentic(a_form(b"Body=+a%2Bb+%C3%BC%0D%0A", sign(message)))
    assert is_authentic(a_form(b"Body=%20a%2bb%20%c3%bc%0d%0a", sign(message)))


def test_bytes_that_are_not_utf_8_are_signed_as_they_are():
    signature = base64.b64encode(hmac.new(b"12345", SDK_URL.encode() + b"A\xff", "sha1").digest()).decode()

    assert is_authentic(a_form(b"A=%FF", signature))


def test_a_changed_added_removed_or_blanked_field_is_refused():
    good = sign(OWN_URL + "".join(name + value for name, value in OWN_FIELDS))
    changes = [
        [*OWN_FIELDS[:3], ("MessageStatus", "failed"), OWN_FIELDS[4]],
        [*OWN_FIELDS, ("ErrorCode", "30003")],
        OWN_FIELDS[1:],
        [*OWN_FIELDS[:4], ("To", "")],
        [],
    ]

    assert is_authentic(a_form(OWN_FIELDS, good, OWN_URL))
    assert not any(is_authentic(a_form(fields, good, OWN_URL)) for fields in changes)


def test_a_form_of_too_many_fields_is_refused():
    fields = [(f"n{number}", "") for number in range(1_001)]
    message = SDK_URL + "".join(sorted(name for name, _ in fields))

    assert not is_authentic(a_form(fields, sign(message)))


# Which URL


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://h.example/p", "https://h.example/p"),
        ("https://h.example/p", "https://h.example:443/p"),
        ("https://h.example:443/p", "https://h.example:443/p"),
        ("https://h.example:443/p", "https://h.example/p"),
        ("http://h.example/p", "http://h.example:80/p"),
        ("http://h.example:80/p?a=b:c@d", "http://h.example/p?a=b:c@d"),
        ("https://h.example:8443/p", "https://h.example:8443/p"),
        ("https://h.example:8443/p", "https://h.example/p"),
        ("https://h.example:80/p", "https://h.example/p"),
        ("http://h.example:443/p", "http://h.example:443/p"),
        ("https://user:pa:ss@h.example/p", "https://h.example/p"),
        ("https://user@h.example:8443/p", "https://h.example:8443/p"),
        ("https://h.example/p#rc=5&rp=all", "https://h.example/p"),
        ("https://h.example/p?x=&y=%2F%20a#rc=5", "https://h.example/p?x=&y=%2F%20a"),
        ("https://h.example?x=1", "https://h.example?x=1"),
        ("https://h.example", "https://h.example:443"),
        ("https://[2001:db8::1]/p", "https://[2001:db8::1]:443/p"),
        ("https://[2001:db8::1]:8443/p", "https://[2001:db8::1]:8443/p"),
    ],
)
def test_the_url_is_signed_without_user_and_fragment_with_or_without_its_port(url, signed):
    assert is_authentic(a_form([("A", "1")], sign(signed + "A1"), url))


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://h.example:8443/p", "https://h.example:443/p"),
        ("https://h.example/p", "https://h.example:80/p"),
        ("http://h.example/p", "https://h.example/p"),
        ("https://h.example/p", "https://h.example/p/"),
        ("https://h.example/p?x=%2F", "https://h.example/p?x=/"),
        ("https://h.example/p?a=1&b=2", "https://h.example/p?b=2&a=1"),
        ("https://h.example/p?a=1", "https://h.example/p"),
        ("https://other.example/p", "https://h.example/p"),
        ("https://user@h.example/p", "https://user@h.example/p"),
        ("https://h.example/p#x", "https://h.example/p#x"),
        ("ftp://h.example/p", "ftp://h.example/p"),
        ("", ""),
    ],
)
def test_a_signature_over_any_other_url_is_refused(url, signed):
    assert not is_authentic(a_form([("A", "1")], sign(signed + "A1"), url))


def test_host_and_forwarded_headers_change_nothing():
    spoofed = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}

    assert is_authentic(a_form([("A", "1")], sign("https://h.example/pA1"), "https://h.example/p", **spoofed))
    assert not is_authentic(a_form([("A", "1")], sign("http://evil.example/pA1"), "https://h.example/p", **spoofed))


# JSON bodies


def test_a_json_body_without_its_digest_in_the_url_is_refused():
    headers = {"Content-Type": "application/json", "X-Twilio-Signature": sign(SDK_URL)}

    assert not is_authentic(a_webhook(JSON_BODY, headers, SDK_URL))


@pytest.mark.parametrize(
    "digest", [hashlib.sha256(b"other").hexdigest(), JSON_DIGEST.upper(), JSON_DIGEST[:-1], JSON_DIGEST + "0", ""]
)
def test_a_json_body_with_another_digest_is_refused(digest):
    url = f"{SDK_URL}&bodySHA256={digest}"

    assert not is_authentic(
        a_webhook(JSON_BODY, {"Content-Type": "application/json", "X-Twilio-Signature": sign(url)}, url)
    )


def test_a_digest_in_the_fragment_does_not_count():
    headers = {"Content-Type": "application/json", "X-Twilio-Signature": sign(SDK_URL)}

    assert not is_authentic(a_webhook(JSON_BODY, headers, f"{SDK_URL}#&bodySHA256={JSON_DIGEST}"))


def test_a_digest_that_nobody_signed_does_not_count():
    headers = {"Content-Type": "application/json", "X-Twilio-Signature": sign(SDK_URL)}

    assert not is_authentic(a_webhook(JSON_BODY, headers, f"{SDK_URL}&bodySHA256={JSON_DIGEST}"))


def test_the_signature_of_a_form_does_not_pass_for_a_json_body():
    form = sign_twilio_form(encode_form(twilio_form()), b"12345")
    headers = [
        ("content-type", b"application/json"),
        ("x-twilio-signature", form.headers.first("x-twilio-signature") or b""),
    ]

    assert is_authentic(form)
    assert not is_authentic(a_webhook(form.body, headers, form.url))


def test_a_json_body_may_be_signed_with_its_default_port():
    body = json.dumps([twilio_event()]).encode()
    digest = hashlib.sha256(body).hexdigest()
    signature = sign(f"{BASE_URL.replace('.com', '.com:443')}?bodySHA256={digest}")
    headers = {"Content-Type": "application/json", "X-Twilio-Signature": signature}

    assert is_authentic(a_webhook(body, headers, f"{BASE_URL}?bodySHA256={digest}"))
    assert is_authentic(sign_twilio_events(body, b"12345"))


# Shared keys


def under(settings: list[bytes], algorithm: str = "sha256") -> bool:
    """Tell whether a form signed with an algorithm passes under these settings headers."""
    signature = sign(f"{SDK_URL}A1", algorithm)
    headers = [("content-type", FORM.encode()), ("x-twilio-signature", signature.encode())]
    headers += [("x-twilio-webhooks-signature-settings", value) for value in settings]
    return is_authentic(a_webhook(b"A=1", headers, SDK_URL))


def test_a_shared_key_is_one_of_several_secrets():
    message = f"{SDK_URL}A1"
    headers = {"X-Twilio-Webhooks-Signature-Settings": SHARED_KEY}
    webhook = a_form([("A", "1")], sign(message, "sha256", "shared"), **headers)

    assert is_authentic(webhook, "token", "shared")
    assert not is_authentic(webhook, "token")


@pytest.mark.parametrize(
    "settings", [b"key=k,algorithm=HMAC_SHA256", b"algorithm=HMAC_SHA256,key=k", b" key = k , algorithm = HMAC_SHA256 "]
)
def test_the_settings_may_name_sha_256_however_they_are_laid_out(settings):
    assert under([settings])


@pytest.mark.parametrize(
    "settings",
    [
        [b"key=k,algorithm=HMAC_SHA1"],
        [b"key=k,algorithm=none"],
        [b"key=k,algorithm="],
        [b"key=k"],
        [b""],
        [b"algorithm=HMAC_MD5"],
        [b"algorithm=HMAC_SHA256,algorithm=HMAC_SHA1"],
        [b"algorithm=HMAC_SHA1,algorithm=HMAC_SHA256"],
        [b"algorithm=HMAC_SHA256", b"algorithm=HMAC_SHA1"],
        [b"algorithm=HMAC_SHA256", b"algorithm=HMAC_SHA256"],
        [b"algorithm=HMAC_SHA256;algorithm=HMAC_SHA1"],
        [b"\xff\xfe"],
    ],
)
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_settings_that_name_anything_else_are_refused(settings, algorithm):
    assert not under(settings, algorithm)


def test_each_algorithm_counts_only_where_it_belongs():
    assert under([], "sha1")
    assert not under([], "sha256")
    assert not under([SHARED_KEY.encode()], "sha1")

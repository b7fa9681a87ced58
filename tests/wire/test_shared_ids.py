"""What adapters of one message a request, and of ids that recipients share, have in common."""

import pytest
from msgspec import Raw

from ledger.wire import decoding
from ledger.wire.contract import Headers, Malformed, Webhook
from tests.builders import an_observation


def a_webhook(body: bytes, method: str = "POST") -> Webhook:
    return Webhook(method=method, url="u", query=b"{", headers=Headers([]), body=body)


def test_a_request_about_one_message_says_what_it_says() -> None:
    observation = an_observation()

    parsed = decoding.single(b"content", lambda: observation)

    assert (parsed.observations, parsed.unreadable, parsed.ignored) == ((observation,), (), 0)


def test_a_request_about_something_else_is_ignored() -> None:
    parsed = decoding.single(b"content", lambda: None)

    assert (parsed.observations, parsed.unreadable, parsed.ignored) == ((), (), 1)


def test_a_request_in_which_something_is_missing_is_kept() -> None:
    def read() -> None:
        raise Malformed("id is missing")

    parsed = decoding.single(b"content", read)

    assert [(each.reason, each.item) for each in parsed.unreadable] == [("id is missing", b"content")]
    assert (parsed.observations, parsed.ignored) == ((), 0)


@pytest.mark.parametrize(
    ("address", "expected"),
    [("447700900123", "+447700900123"), ("+447700900123", "+447700900123"), ("Acme", "Acme"), (None, None), ("", "")],
)
def test_a_recipient_is_a_number_with_a_plus_or_as_it_is(address: str | None, expected: str | None) -> None:
    assert expected == decoding.recipient(address)


def test_a_number_names_the_same_message_with_and_without_its_plus() -> None:
    named = {decoding.shared_reference("b", address) for address in ("447700900123", "+447700900123")}

    assert named == {"b|+447700900123"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"{", True), (b" \r\n\t{}", True), (b"[", False), (b"", False), (b"a=1", False), (b"\xef\xbb\xbf{", False)],
)
def test_a_body_looks_like_an_object_or_not(body: bytes, expected: bool) -> None:
    assert expected == decoding.is_object(a_webhook(body))


def test_a_get_has_no_body_whatever_comes_with_it() -> None:
    assert not decoding.is_object(a_webhook(b"{}", "GET"))


@pytest.mark.parametrize("raw", [b"null", b" null ", b"\nnull"])
def test_null_is_absent(raw: bytes) -> None:
    assert not decoding.is_present(Raw(raw))


@pytest.mark.parametrize("raw", [b"0", b'""', b"{}", b"[]", b'"null"', b"nul"])
def test_anything_else_is_present(raw: bytes) -> None:
    assert decoding.is_present(Raw(raw))


def test_a_small_request_is_the_evidence_about_each_of_its_recipients() -> None:
    assert decoding.own_evidence(b"whole", b"own") == b"whole"
    assert decoding.own_evidence(b"x" * (decoding.EVIDENCE_BYTES_MAX + 1), b"own") == b"own"

from hypothesis import given
from hypothesis import strategies as st

from ledger.wire import signature
from ledger.wire.contract import Secret


def test_hex_is_lower_case_and_matches_a_published_vector():
    """RFC 4231, test case 2."""
    expected = b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

    assert expected == signature.hmac_hex(b"Jefe", b"what do ya want for nothing?")


def test_base64_keeps_its_padding_and_matches_a_published_vector():
    """RFC 2202, test case 2."""
    assert signature.hmac_base64(b"Jefe", b"what do ya want for nothing?", "sha1") == b"7/zfauXrL6LSdBbV8YTfnCWafHk="


def test_any_of_several_secrets_may_have_signed():
    candidates = [signature.hmac_hex(secret, b"body") for secret in (b"new", b"old")]

    assert signature.matches_any(candidates, [signature.hmac_hex(b"old", b"body")])


def test_any_of_several_given_signatures_may_match():
    good = signature.hmac_hex(b"secret", b"body")

    assert signature.matches_any([good], [b"", b"\xff\xfe", good])


def test_nothing_is_computed_without_a_given_signature():
    def expensive():
        raise AssertionError("computed a signature that nobody asked for")
        yield b""

    assert not signature.matches_any(expensive(), [])


def test_an_empty_expectation_matches_nothing_not_even_an_empty_signature():
    assert not signature.is_equal(b"", b"")


def test_an_empty_secret_does_not_sign():
    assert signature.usable((Secret(""), Secret("k"), Secret(b""))) == [b"k"]


@given(st.lists(st.binary()), st.lists(st.binary()))
def test_matching_is_total_over_any_bytes(expected, given_values):
    common = {value for value in expected if value} & set(given_values)

    assert bool(common) == signature.matches_any(expected, given_values)

"""Forms are taken apart into bytes, as a signature needs them, and read as texts."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.wire import forms
from ledger.wire.contract import Malformed


def test_a_form_keeps_order_repeats_and_blanks() -> None:
    assert forms.fields(b"b=2&a=&b=1&c") == as_fields((b"b", b"2"), (b"a", b""), (b"b", b"1"), (b"c", b""))


def test_plus_and_percent_are_decoded_to_bytes() -> None:
    assert forms.fields(b"a+b=%2B%FF%3D%20") == as_fields((b"a b", b"+\xff= "))


def test_a_broken_percent_stays_as_it_is() -> None:
    assert forms.fields(b"a=100%&b=%zz") == as_fields((b"a", b"100%"), (b"b", b"%zz"))


#: What forms are made of, and what may end or escape something in JSON.
PIECES = [b"a", b"=", b"&", b"+", b"%", b"%26", b"%3D", b"%3d", b"%25", b"%2", b"%5C", b"%22", b"%00", b"41", b'"']
PIECES += [b"\\", b"\\u0041", b"[", b"]", b",", b"\x00", b"\n", b"\x7f", b"\xc3", b"%C3%A9", b"%u0041", b" "]


#: Fields that have one equals sign, as nearly all have.
PAIRS = st.lists(st.sampled_from(PIECES).filter(lambda piece: piece not in (b"=", b"&")), max_size=4).map(b"".join)


@example(b'a=1"],["b=2')
@example(b"a=%=5")
@example(b"a=%4&b=1")
@example(b"a=\\u0041")
@example(b'a=\\"&b=1')
@given(
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=4), max_size=30).map(b"".join)
    | st.lists(st.tuples(PAIRS, PAIRS).map(b"=".join), max_size=6).map(b"&".join)
)
def test_every_form_is_taken_apart_as_its_definition_says(form: bytes) -> None:
    assert forms.fields(form) == as_fields(*defined(form))


def test_a_form_of_a_thousand_fields_is_read_and_one_more_is_malformed() -> None:
    assert len(forms.fields(b"&".join([b"a=1"] * 1_000))) == 1_000
    with pytest.raises(Malformed):
        forms.fields(b"&".join([b"a=1"] * 1_001))
    with pytest.raises(Malformed):
        forms.fields(b"a=1&" * 100_000)


def test_a_form_beyond_its_bytes_is_malformed_before_anything_is_decoded() -> None:
    assert len(forms.fields(b"a=" + b"%" * (forms.BYTES_MAX - 2))) == 1
    with pytest.raises(Malformed):
        forms.fields(b"a=" + b"%" * (forms.BYTES_MAX - 1))


def test_texts_are_the_first_that_is_not_blank_and_what_is_no_utf8_is_replaced() -> None:
    told = forms.fields(b"a=+&a=1&a=2&b=&c=%FF&%C3%A9=%E2%82%AC")

    assert forms.texts(told) == {"a": "1", "c": "\N{REPLACEMENT CHARACTER}", "é": "€"}


def defined(form: bytes) -> list[tuple[bytes, bytes]]:
    """Take a form apart by the definition: fields, then names and values, then escapes."""
    parted = [field.partition(b"=") for field in form.split(b"&") if field]
    return [(unescaped(name), unescaped(value)) for name, _, value in parted]


def unescaped(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def as_fields(*pairs: tuple[bytes, bytes]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs)

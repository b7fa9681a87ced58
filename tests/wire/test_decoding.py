import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw

from ledger.wire import decoding
from ledger.wire.contract import Malformed, Unreadable


class Thing(msgspec.Struct):
    id: str
    size: int | None = None
    extra: Raw = decoding.ABSENT


read_thing = decoding.json_reader(Thing, "thing")

#: Bodies that make decoders raise something other than their own errors, or that few of them survive.
HOSTILE = {
    "empty": b"",
    "blank": b" \n",
    "null": b"null",
    "byte order mark": b'\xef\xbb\xbf{"id":"a"}',
    "bad UTF-8": b'{"id":"\xff\xfe"}',
    "overlong UTF-8": b'{"id":"\xc0\x80"}',
    "encoded surrogate": b'{"id":"\xed\xa0\x80"}',
    "raw NUL": b'{"id":"a\x00b"}',
    "lone high surrogate": b'{"id":"\\ud83d"}',
    "lone low surrogate in an ignored field": b'{"id":"a","zz":"\\ude80"}',
    "deep arrays in an ignored field": b'{"id":"a","zz":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects in an ignored field": b'{"id":"a","zz":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "deep and cut off": b"[" * 1_000_000,
    "huge integer": b'{"id":"a","size":' + b"9" * 5_000 + b"}",
    "integer of a hundred thousand digits": b'{"id":"a","size":' + b"9" * 100_000 + b"}",
    "infinite number": b'{"id":"a","size":1e999}',
    "NaN": b'{"id":"a","zz":NaN}',
    "Infinity": b'{"id":"a","zz":-Infinity}',
    "cut off": b'{"id":"a',
    "trailing comma": b'{"id":"a",}',
    "two documents": b'{"id":"a"}{"id":"b"}',
    "single quotes": b"{'id':'a'}",
    "array": b'["id","a"]',
    "UTF-16": '{"id":"a"}'.encode("utf-16"),
}


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except Malformed as problem:
        return problem


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in HOSTILE.items()])
def test_hostile_json_is_malformed(body):
    assert isinstance(outcome(read_thing, body), Malformed)


def test_a_reason_names_the_place_and_never_quotes_the_payload():
    problem = outcome(read_thing, b'{"id":"a","size":"+12025550111"}')

    assert str(problem).startswith("thing: ")
    assert "12025550111" not in str(problem)


def test_huge_numbers_and_nul_in_ignored_fields_cost_nothing():
    body = b'{"id":"a","zz":' + b"9" * 5_000 + b',"yy":"\\u0000","xx":1e999}'

    assert Thing("a") == read_thing(body)


def test_the_last_of_duplicate_keys_counts():
    assert Thing("b") == read_thing(b'{"id":"a","id":"b"}')


@example(b"[" * 5_000)
@given(st.one_of(st.binary(), st.text().map(str.encode)))
def test_reading_any_bytes_gives_a_value_or_malformed(body):
    assert isinstance(outcome(read_thing, body), Thing | Malformed)
    assert isinstance(outcome(decoding.json_items, body), list | tuple | Malformed)


# Loose fields


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"null", None),
        (b'"text"', "text"),
        (b"12", 12),
        (b'{"a":[1]}', {"a": [1]}),
        (b"9" * 5_000, None),
        (b"1e999", None),
        (b"[" * 2_000 + b"]" * 2_000, None),
        (b'"a\xffb"', "a\N{REPLACEMENT CHARACTER}b"),
    ],
)
def test_a_loose_field_is_read_as_far_as_it_can_be(raw, expected):
    assert expected == decoding.loose(Raw(raw))


def test_an_absent_field_reads_as_null():
    assert decoding.loose(read_thing(b'{"id":"a"}').extra) is None


def test_a_member_of_what_is_no_object_is_absent():
    assert [decoding.member(value, "a") for value in ({"a": 1}, {}, [1], None)] == [1, None, None, None]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"[]", 0), (b'[1,{"a":[2,3]},"\xff"]', 3), (b"null", 0), (b"{}", 0), (b"[" * 2_000 + b"]" * 2_000, 0)],
)
def test_elements_are_counted_without_being_decoded(raw, expected):
    assert expected == decoding.count(Raw(raw))


# Items


def test_an_array_gives_its_elements_verbatim():
    assert [bytes(item) for item in decoding.json_items(b' [ {"a" : 1} , null ] ')] == [b'{"a" : 1}', b"null"]


def test_a_lone_object_is_an_array_of_one():
    assert [bytes(item) for item in decoding.json_items(b' {"a" : 1}\n')] == [b'{"a" : 1}']


@pytest.mark.parametrize("body", [b"", b"5", b'"a"', b"null", b"[1", b'{"a"', b"{}{}"])
def test_anything_else_is_malformed(body):
    assert isinstance(outcome(decoding.json_items, body), Malformed)


# Values


@pytest.mark.parametrize(
    "value", [None, "", "  ", "\t", 5, True, [], {}, "a\0b", "a\N{REPLACEMENT CHARACTER}", "a" * 1_025]
)
def test_a_name_that_is_blank_or_damaged_is_no_word(value):
    assert decoding.word(value) is None


def test_a_word_is_kept_verbatim():
    assert decoding.word(" Sent\n") == " Sent\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5741311803571721001, "5741311803571721001"),
        ("5741311803571721001", "5741311803571721001"),
        ((1 << 64) - 1, "18446744073709551615"),
        (1 << 64, None),
        (5.741311803571721e18, None),
        (True, None),
        (None, None),
    ],
)
def test_an_identifier_is_a_word_or_a_64_bit_integer_and_never_a_float(value, expected):
    assert expected == decoding.identifier(value)


def test_a_text_survives_nul_and_is_cut_to_its_limit():
    assert decoding.text("a\0b") == "a\N{REPLACEMENT CHARACTER}b"
    assert len(decoding.text("x" * 10_000) or "") == decoding.TEXT_MAX


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("12025550111", "+12025550111"),
        ("+12025550111", "+12025550111"),
        ("12345", None),
        ("+1202555XXXX", None),
        ("120363000000000001@g.us", None),
        ("US.90000000000000000014", None),
        ("1234567890123456", None),
        ("١٢٠٢٥٥٥٠١١١", None),
        ("12025550111\n", None),
        ("", None),
    ],
)
def test_only_a_phone_number_becomes_plus_digits(address, expected):
    assert expected == decoding.phone_number(address)


# Batches


def test_one_unreadable_item_is_kept_verbatim_and_costs_no_neighbour():
    batch = decoding.Batch()
    items = decoding.json_items(b'[{"id":"a"}, {"id" : 5}, {"id":"\xff"}, {"id":"b"}]')

    found = list(batch.each(items, read_thing))

    assert [Thing("a"), Thing("b")] == found
    assert [bad.item for bad in batch.parsed().unreadable] == [b'{"id" : 5}', b'{"id":"\xff"}']
    assert all(isinstance(bad, Unreadable) and bad.reason for bad in batch.parsed().unreadable)


def test_a_batch_beyond_its_limit_is_malformed_as_a_whole():
    items = [Raw(b'{"id":"a"}')] * (decoding.ITEMS_MAX + 1)
    batch = decoding.Batch()

    assert len(list(batch.each(items[1:], read_thing))) == decoding.ITEMS_MAX
    with pytest.raises(Malformed, match="10000 items"):
        list(decoding.Batch().each(items, read_thing))


def test_the_limit_counts_items_of_all_levels():
    batch = decoding.Batch()
    items = [Raw(b'{"id":"a"}')] * decoding.ITEMS_MAX

    list(batch.each(items, read_thing))

    with pytest.raises(Malformed):
        list(batch.each(items[:1], read_thing))

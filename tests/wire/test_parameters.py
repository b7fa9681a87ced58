"""Signed parameters: the same text wherever they travel, and none that could be another's."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.wire import forms, parameters
from ledger.wire.contract import Headers, Webhook
from ledger.wire.parameters import Signed


def a_webhook(body: bytes = b"", query: str = "", method: str = "POST") -> Webhook:
    return Webhook(method=method, url="u", query=query.encode(), headers=Headers([]), body=body)


def signed(webhook: Webhook) -> Signed:
    return parameters.signed(webhook, signature=b"sig", time=b"at")


def as_form(told: dict[str, str]) -> Webhook:
    return a_webhook(urlencode(told).encode())


def as_query(told: dict[str, str]) -> Webhook:
    return a_webhook(query=urlencode(told), method="GET")


def as_json(told: dict[str, Any]) -> Webhook:
    return a_webhook(json.dumps(told).encode())


names = st.text("abcXYZ-_", min_size=1, max_size=5)
values = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.dictionaries(names, values, min_size=1, max_size=5))
def test_parameters_are_the_same_wherever_they_travel(told: dict[str, str]) -> None:
    assert signed(as_form(told)) == signed(as_query(told)) == signed(as_json(told))


def test_they_are_sorted_and_joined_and_separators_in_values_replaced() -> None:
    told = {"b": "2&3=4", "a": "1", "sig": "xyz", "at": "5"}

    assert signed(as_form(told)) == Signed(b"&a=1&at=5&b=2_3_4", (b"xyz",), "5")


@pytest.mark.parametrize("name", ["a=b", "a&b", "=", "&"])
def test_a_name_with_a_separator_leaves_nothing_to_sign(name: str) -> None:
    assert signed(as_form({name: "1", "sig": "xyz"})) == Signed(b"", (b"xyz",), "")


def test_several_signatures_are_told() -> None:
    assert signed(a_webhook(b"a=1&sig=x&sig=y")).signatures == (b"x", b"y")


@pytest.mark.parametrize("value", [0.0333, 1.50, 12, True, None, [1, 2], {"a": 1}])
def test_what_is_no_text_in_json_is_signed_as_it_is_written(value: object) -> None:
    assert signed(as_json({"a": value})).text == b"&a=" + json.dumps(value).encode()


def test_what_is_no_text_and_no_whole_number_in_json_says_nothing() -> None:
    told = {"a": "x", "b": 5, "c": 1.5, "d": None, "e": " ", "f": [1], "g": True}

    assert parameters.texts(as_json(told)) == {"a": "x", "b": "5"}


def test_too_many_or_too_large_parameters_leave_nothing_to_sign() -> None:
    many = {f"a{number}": "" for number in range(forms.FIELDS_MAX + 1)}
    large = {"a": "x" * forms.BYTES_MAX}

    for told in (many, large, {}):
        assert signed(as_json(told)) == Signed()
    for told in (many, large):
        assert signed(as_form(told)) == Signed()


@given(st.binary(max_size=100), st.sampled_from(["GET", "POST"]))
def test_no_bytes_raise_anything(told: bytes, method: str) -> None:
    assert isinstance(
        signed(a_webhook(told, told.decode("latin-1").encode("ascii", "replace").decode(), method)), Signed
    )
    assert isinstance(signed(a_webhook(b"{" + told)), Signed)

"""Paths into JSON: what is found, what is not, and that nothing on the way can do harm."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from ledger.wire import paths

BODY = b'{"a": {"b": [10, {"c d": "x", "e.f": null}]}, "$": 1, "": 2}'


def found(path: str, body: bytes | Raw = BODY) -> Raw | None:
    return paths.Finder({"it": paths.parse(path)}).find(body).get("it")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b[0]", b"10"),
        ("$.a.b[0]", b"10"),
        ("$a.b[0]", b"10"),
        ("a.b[1].c d", b'"x"'),
        ('a.b[1]["c d"]', b'"x"'),
        ("a.b[1]['e.f']", b"null"),
        ("a['b'][0]", b"10"),
    ],
)
def test_a_path_leads_to_the_value_as_it_is_written(path: str, value: bytes) -> None:
    assert found(path) == Raw(value)


@pytest.mark.parametrize("path", ["x", "a.x", "a[0]", "a.b[9]", "a.b.c", "a.b[0].c", "a.b[1].e.f"])
def test_a_path_that_leads_nowhere_finds_nothing(path: str) -> None:
    assert found(path) is None


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{", b"[]", b"5", b"[" * 100_000, b'{"a":' * 100_000, b'{"a":1}{"a":1}']
)
def test_in_what_is_no_json_nothing_is_found(body: bytes) -> None:
    assert found("a.b", body) is None


def test_a_hostile_value_beside_the_path_costs_nothing() -> None:
    hostile = b"[" * 900 + b"]" * 900

    assert found("good", b'{"bad": %s, "good": 1}' % hostile) == Raw(b"1")


@pytest.mark.parametrize(
    "path",
    ["", "$", "$.", ".", "a.", "a..b", "[", "a[", "a[]", "a[x]", "a[-1]", "a['b", "a[1234567]", "a]", "a." * 40 + "b"],
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        paths.parse(path)


names = st.text(st.characters(exclude_characters="\"'", exclude_categories=["Cs"]), min_size=1, max_size=5)


@given(st.lists(names | st.integers(0, 3), min_size=1, max_size=6))
def test_a_value_is_found_under_any_names(steps: list[str | int]) -> None:
    value: object = "here"
    for step in reversed(steps):
        value = {step: value} if isinstance(step, str) else [None] * step + [value]
    path = "".join(f'["{step}"]' if isinstance(step, str) else f"[{step}]" for step in steps)

    assert found(path, json.dumps(value).encode()) == Raw(b'"here"')


def test_a_value_may_be_looked_for_in_a_value_that_was_found() -> None:
    inner = found("a")

    assert inner is not None
    assert found("b[0]", inner) == Raw(b"10")


def test_several_paths_are_found_at_once_where_one_goes_through_the_other() -> None:
    wanted = {"whole": "a", "first": "a.b[0]", "last": "a.b[1]['c d']", "same": "$.a.b[0]", "none": "a.b[0].c"}
    finder = paths.Finder({name: paths.parse(path) for name, path in wanted.items()})
    whole = Raw(b'{"b": [10, {"c d": "x", "e.f": null}]}')

    for _ in range(2):
        assert finder.find(BODY) == {"whole": whole, "first": Raw(b"10"), "same": Raw(b"10"), "last": Raw(b'"x"')}
    assert finder.find(b"[]") == {}

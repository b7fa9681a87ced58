"""What every provider must do, written once and run for each. A provider's own rules are in its own test file."""

import json
from itertools import product

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.domain.observation import Observation
from ledger.providers import PROVIDERS
from ledger.wire.contract import UNRECOGNISED, Headers, Malformed, Parsed, Webhook, claim_of
from tests.providers.hostile import CONTENT_TYPES, HOSTILE_BODIES, HOSTILE_VALUES
from tests.providers.webhook_cases import (
    CASES,
    Case,
    a_webhook,
    all_recorded,
    an_account,
    as_webhook,
    outcome,
    paths,
    with_value,
    without,
)

each_case = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
each_batch = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.is_batch])
each_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
without_deadline = settings(deadline=None)

GOOD = "1001"
SENT = "sent"


def resigned(case: Case, request: Webhook, *signatures: bytes) -> Webhook:
    """Return the request with other signature headers: none, one or several."""
    content_type = request.headers.first("content-type") or b""
    header = case.signature_header.encode()
    headers = Headers([(b"content-type", content_type), *((header, value) for value in signatures)])
    return msgspec.structs.replace(request, headers=headers)


HEADER_NAMES = sorted(
    {"content-type", "x-twilio-webhooks-signature-settings", *(case.signature_header for case in CASES)}
)


# Authentication


@each_case
def test_any_of_several_secrets_may_have_signed(case):
    account = an_account(case.provider.name, "new", "old")

    assert case.provider.authenticate(case.request(case.item(GOOD, SENT), secret=b"old"), account)
    assert case.provider.authenticate(case.request(case.item(GOOD, SENT), secret=b"new"), account)


@each_case
def test_another_secret_is_refused(case):
    request = case.request(case.item(GOOD, SENT), secret=b"another")

    assert not case.provider.authenticate(request, an_account(case.provider.name, "secret"))


@each_case
def test_without_a_secret_nothing_is_authentic(case):
    request = case.request(case.item(GOOD, SENT), secret=b"")

    for secrets in ((), ("",), (b"", "")):
        assert not case.provider.authenticate(request, an_account(case.provider.name, *secrets))


@each_case
def test_a_body_changed_after_signing_is_refused(case):
    request = case.request(case.item(GOOD, SENT))

    for position in range(len(request.body)):
        changed = bytearray(request.body)
        changed[position] ^= 0x01
        tampered = msgspec.structs.replace(request, body=bytes(changed))
        assert not case.provider.authenticate(tampered, an_account(case.provider.name, "secret")), position


@each_case
def test_a_body_with_something_appended_is_refused(case):
    request = case.request(case.item(GOOD, SENT))

    for more in (b" ", b"\n", b"&To=x", b"\0"):
        tampered = msgspec.structs.replace(request, body=request.body + more)
        assert not case.provider.authenticate(tampered, an_account(case.provider.name, "secret"))


@each_case
def test_a_missing_empty_cut_or_odd_signature_is_refused(case):
    request = case.request(case.item(GOOD, SENT))
    good = request.headers.first(case.signature_header) or b""
    account = an_account(case.provider.name, "secret")

    assert not case.provider.authenticate(resigned(case, request), account)
    for odd in (
        b"",
        b" ",
        good[:-1],
        good + b"=",
        good.swapcase(),
        b"sha256=",
        b"\xff\xfe",
        "é".encode(),
        b"a" * 10_000,
    ):
        assert not case.provider.authenticate(resigned(case, request, odd), account), odd


@each_case
def test_one_good_signature_among_several_suffices(case):
    request = case.request(case.item(GOOD, SENT))
    good = request.headers.first(case.signature_header) or b""

    for several in ((good,), (b"\xff", good), (good, b""), (b"", b"x", good)):
        repeated = resigned(case, request, *several)
        assert case.provider.authenticate(repeated, an_account(case.provider.name, "secret")), several


@pytest.mark.parametrize(("case", "other"), [(a, b) for a, b in product(CASES, CASES) if a.provider is not b.provider])
def test_another_providers_signature_is_refused(case, other):
    request = case.request(case.item(GOOD, SENT))

    assert not other.provider.authenticate(request, an_account(other.provider.name, "secret"))


ANY_BYTES = st.one_of(
    st.binary(max_size=64), st.text(max_size=32).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
ANY_HEADERS = st.lists(st.tuples(st.sampled_from(HEADER_NAMES).map(str.encode), ANY_BYTES), max_size=6)


@each_provider
@without_deadline
@example(
    headers=[(b"x-twilio-webhooks-signature-settings", b"\xff=,=,,")], body=b"\xff", url="https://[::1", secret=b"k"
)
@example(headers=[(b"x-twilio-signature", b"x")], body=b"&" * 5_000, url="http://h:99999999?" + "&" * 50, secret=b"k")
@given(
    headers=ANY_HEADERS,
    body=ANY_BYTES,
    url=st.text(max_size=64).map("https://h/p?".__add__),
    secret=st.binary(max_size=80),
)
def test_authentication_answers_no_to_any_headers_and_bytes(provider, headers, body, url, secret):
    webhook = Webhook(
        method="POST",
        url=url,
        query=url.partition("?")[2].encode("utf-8", "surrogatepass"),
        headers=Headers([(b"content-type", b"application/x-www-form-urlencoded"), *headers]),
        body=body,
    )

    assert provider.authenticate(webhook, an_account(provider.name, secret)) is False


# Vocabulary


@each_case
def test_every_word_of_the_table_gives_its_claim_and_is_kept_verbatim(case):
    for word, claim in case.provider.claims.items():
        for told in (word, word.upper(), f" {word.title()} "):
            (observation,) = case.parse(case.item(GOOD, told)).observations

            assert (told, claim) == (observation.provider_status, observation.claim)


@each_case
@pytest.mark.parametrize(
    "told", ["teleported", "DELIVERED!", "прочитано", "<b>read</b>", "-", "0", "a b", "\x1b[31m", "=1+1"]
)
def test_an_unknown_word_is_recorded_verbatim_and_claims_nothing(case, told):
    parsed = case.parse(case.item(GOOD, told))

    assert [(told, UNRECOGNISED)] == [(seen.provider_status, seen.claim) for seen in parsed.observations]
    assert parsed.unreadable == ()


@each_provider
def test_the_table_is_lower_case_and_trimmed(provider):
    for word, claim in provider.claims.items():
        assert claim == claim_of(provider.claims, f" {word.upper()} ")


@each_case
def test_an_error_code_makes_no_failure(case):
    (observation,) = case.parse(case.item(GOOD, "delivered")).observations

    assert observation.error_code is not None
    assert observation.claim.status == "DELIVERED"


# Fields


@each_case
def test_every_field_but_id_and_status_is_optional_and_null_equals_missing(case):
    item = case.item(GOOD, "delivered")
    parents = {path[:1] for path in (case.id_path, case.status_path) if len(path) > 1}
    optional = [path for path in paths(item) if path not in {case.id_path, case.status_path, *parents}]

    for path in optional:
        absent = [case.parse(less) for less in (without(item, path), with_value(item, path, None))]
        (missing,), (null,) = (list(parsed.observations) for parsed in absent)

        assert missing.provider_message_id == GOOD
        assert msgspec.structs.replace(missing, item=b"") == msgspec.structs.replace(null, item=b""), path


@each_case
@pytest.mark.parametrize("odd", [[], {}, [[]], {"a": {}}, True, 1.5, -1, "\0", "", "  ", 10**40, "x" * 100_000])
def test_an_optional_field_of_an_odd_kind_costs_nothing_but_itself(case, odd):
    item = case.item(GOOD, "delivered")
    parents = {path[:1] for path in (case.id_path, case.status_path) if len(path) > 1}
    routing = {("type",), ("ChannelPrefix",)}
    optional = [path for path in paths(item) if path not in {case.id_path, case.status_path, *parents, *routing}]

    for path in optional:
        (observation,) = case.parse(with_value(item, path, odd)).observations

        assert (observation.provider_message_id, observation.claim.status) == (GOOD, "DELIVERED"), path
        assert_storable(observation)


@each_case
def test_a_status_that_is_missing_null_or_blank_is_captured_and_gives_no_observation(case):
    item = case.item(GOOD, "delivered")
    spoilt = [
        without(item, case.status_path),
        *(with_value(item, case.status_path, odd) for odd in (None, "", " ", "\0")),
    ]

    for bad in spoilt:
        parsed = case.parse(bad)

        assert parsed.observations == ()
        assert [case.encode(bad)] == [each.item for each in parsed.unreadable]


@each_case
def test_an_id_that_is_missing_null_or_blank_is_captured_and_gives_no_observation(case):
    item = case.item(GOOD, "delivered")
    spoilt = [without(item, case.id_path), *(with_value(item, case.id_path, odd) for odd in (None, "", " ", "\0"))]

    for bad in spoilt:
        parsed = outcome(case.provider, case.request(bad))

        assert isinstance(parsed, Malformed) or (not parsed.observations and len(parsed.unreadable) == 1)


@each_case
def test_an_instant_out_of_range_is_no_instant(case):
    odd_times = ("0", "4977069964384421269", 4977069964384421269, "2026-10-15T12:00:00", "soon", -1, 10**30)

    for odd in odd_times:
        item = case.item(GOOD, "delivered")
        for path in paths(item):
            if path[-1] in {"timestamp", "time"}:
                item = with_value(item, path, odd)
        (observation,) = case.parse(item).observations

        assert observation.occurred_at is None


# Batches


@each_batch
def test_every_item_of_a_batch_is_observed_in_order(case):
    parsed = case.parse(*(case.item(str(number), "delivered") for number in range(1_000)))

    assert [str(number) for number in range(1_000)] == [seen.reference for seen in parsed.observations]


@each_batch
@pytest.mark.parametrize(
    "bad",
    [
        b"null",
        b"5",
        b"[]",
        b'"x"',
        b"{}",
        b'{"id":"\xff"}',
        b'{"id":{}}',
        b'{"type":7,"id":[]}',
        b'{"id":"' + b"9" * 5_000 + b'"}',
    ],
)
def test_a_bad_item_is_captured_verbatim_and_its_neighbours_are_kept(case, bad):
    parsed = case.parse(case.item("1", "sent"), bad, case.item("2", "delivered"))

    assert [seen.reference for seen in parsed.observations] == ["1", "2"]
    assert [bad] == [each.item for each in parsed.unreadable]


@each_case
def test_the_evidence_is_the_item_as_sent(case):
    item = case.encode(case.item(GOOD, "delivered"))

    assert [item] == [seen.item for seen in case.parse(item).observations]


@each_batch
def test_a_batch_beyond_the_limit_is_malformed(case):
    parsed = outcome(case.provider, case.request(*[b"{}"] * 10_001))

    assert isinstance(parsed, Malformed)


# Hostile input


def assert_storable(observation: Observation) -> None:
    """Assert what the store relies on: names that are not empty, texts that encode, instants that are aware."""
    assert observation.reference
    assert observation.provider_message_id
    assert observation.provider_status.strip()
    assert observation.occurred_at is None or observation.occurred_at.tzinfo is not None
    for name, value in msgspec.structs.asdict(observation).items():
        if isinstance(value, str):
            assert value, name
            assert "\0" not in value, name
            assert value.encode("utf-8"), name


def assert_total(parsed: object) -> None:
    assert isinstance(parsed, Parsed | Malformed)
    if isinstance(parsed, Parsed):
        for observation in parsed.observations:
            assert_storable(observation)


@each_provider
@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in HOSTILE_BODIES.items()])
@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_a_hostile_body_is_parsed_or_malformed(provider, body, content_type):
    assert_total(outcome(provider, a_webhook(body, [("content-type", content_type)])))


@each_case
@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in HOSTILE_VALUES.items()])
def test_a_hostile_value_anywhere_is_parsed_or_malformed(case, value):
    item = case.item(GOOD, "delivered")
    marker = json.dumps("<<here>>").encode()
    spots = [*paths(item), ("an-unused-field",)]

    for path in spots:
        if case.encode(item)[:1] == b"{":
            encoded = case.encode(with_value(item, path, "<<here>>")).replace(marker, value)
        else:
            encoded = case.encode(with_value(item, path, value[:20_000]))
        assert_total(outcome(case.provider, case.request(encoded)))


@each_case
def test_a_hostile_value_in_an_ignored_field_costs_nothing_if_json_can_hold_it(case):
    for name in (
        "integer of 5,000 digits",
        "NUL",
        "beyond a float",
        "arrays as deep as a stack",
        "long text",
        "bad UTF-8",
    ):
        item = case.encode({**case.item(GOOD, "delivered"), "unused": "<<here>>"})
        hostile = item.replace(b'"<<here>>"', HOSTILE_VALUES[name])

        assert [seen.reference for seen in case.parse(hostile).observations] == [GOOD], name


@each_provider
@without_deadline
@given(body=st.binary(), content_type=st.sampled_from(CONTENT_TYPES))
def test_any_bytes_are_parsed_or_malformed(provider, body, content_type):
    assert_total(outcome(provider, a_webhook(body, [("content-type", content_type)])))


# Structure: recorded payloads with nodes dropped, retyped, doubled and deepened

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(["", " ", "delivered", "\0", "1792065601", "US.1", "group", "messages"]),
    st.just([]),
    st.just({}),
)


@st.composite
def mutated(draw: st.DrawFn, value: object) -> object:
    """Draw a structure like the given one with something wrong at a few of its nodes."""
    fate = draw(st.integers(0, 24))
    if fate == 0:
        return draw(LEAVES)
    if fate == 1:
        return [value]
    if fate == 2:
        return {"value": value}
    if isinstance(value, dict):
        kept = {name: draw(mutated(each)) for name, each in value.items() if draw(st.integers(0, 24))}
        return {**kept, **({"id": draw(LEAVES)} if fate == 3 else {})}
    if isinstance(value, list):
        changed = [draw(mutated(each)) for each in value if draw(st.integers(0, 24))]
        return changed * 2 if fate == 3 else changed
    return value


JSON_PAYLOADS = [
    (payload["provider"], payload["headers"], json.loads(payload["body"]))
    for _, payload in all_recorded("webhook")
    if payload["body"][:1] in "[{"
]


@without_deadline
@given(st.data())
def test_a_recorded_payload_with_its_structure_changed_is_parsed_or_malformed(data):
    provider, headers, body = data.draw(st.sampled_from(JSON_PAYLOADS))
    changed = data.draw(mutated(body))

    assert_total(outcome(PROVIDERS[provider], a_webhook(json.dumps(changed).encode(), headers)))


@each_batch
@without_deadline
@given(data=st.data())
def test_whatever_happens_to_one_item_its_neighbours_say_the_same(case, data):
    changed = data.draw(mutated(case.item("2", "sent")))
    before, after = case.item("1", "sent"), case.item("3", "failed")
    alone = list(case.parse(before, after).observations)

    together = case.parse(before, json.dumps(changed).encode(), after)

    assert alone == [together.observations[0], together.observations[-1]]
    assert len(together.observations) + len(together.unreadable) + together.ignored == 3


@pytest.mark.parametrize(
    ("name", "payload"), all_recorded("webhook"), ids=lambda value: value if isinstance(value, str) else ""
)
def test_parsing_a_recorded_payload_twice_gives_equal_results(name, payload):
    provider = PROVIDERS[payload["provider"]]

    assert outcome(provider, as_webhook(payload)) == outcome(provider, as_webhook(payload))

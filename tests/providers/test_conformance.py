"""What every provider must do, written once and run for each. A provider's own rules are in its own test file."""

import json
from itertools import product

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ledger.domain.observation import Observation
from ledger.domain.status import Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import UNRECOGNISED, Headers, Malformed, Parsed, Webhook, claim_of
from tests.providers.hostile import CONTENT_TYPES, HOSTILE_BODIES, HOSTILE_VALUES
from tests.providers.requests import header_pairs
from tests.providers.webhook_cases import (
    CASES,
    a_webhook,
    all_recorded,
    an_account,
    as_webhook,
    outcome,
    paths,
    recorded_account,
    with_value,
    without,
)

each_case = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
each_batch = pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.is_batch])
each_signed = pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in CASES if case.covers == "all"]
)
each_header = pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in CASES if case.signature_header]
)
each_json = pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name) for case in CASES if case.encode({}) == b"{}"]
)
each_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)
without_deadline = settings(deadline=None)

GOOD = "1001"
SENT = "sent"
#: Members that hold a time which becomes `occurred_at`.
TIMES = {
    *("timestamp", "time", "ts", "at", "event_time", "occurred_at", "doneAt", "lastStatusAt", "eventTimestamp"),
    *("message-timestamp", "message_time", "statusDatetime", "QueuedTime", "SentTime", "DeliveryReportTime"),
}
HEADER_NAMES = sorted(
    {"content-type", "x-twilio-webhooks-signature-settings"}
    | {name.decode() for case in CASES for name, _ in header_pairs(case.request(case.item(GOOD, SENT)))}
)


# Authentication


@each_case
def test_any_of_several_secrets_may_have_signed(case):
    account = case.account("new", "old")

    assert case.provider.authenticate(case.request(case.item(GOOD, SENT), secret=b"old"), account)
    assert case.provider.authenticate(case.request(case.item(GOOD, SENT), secret=b"new"), account)


@each_case
def test_another_secret_is_refused(case):
    request = case.request(case.item(GOOD, SENT), secret=b"another")

    assert not case.provider.authenticate(request, case.account("secret"))


@each_case
def test_without_a_secret_nothing_is_authentic(case):
    request = case.request(case.item(GOOD, SENT), secret=b"")

    for secrets in ((), ("",), (b"", "")):
        account = an_account(case.provider.name, *secrets, options=case.options)
        assert not case.provider.authenticate(request, account)


@each_signed
def test_content_changed_after_signing_is_refused(case):
    request = case.request(case.item(GOOD, SENT))

    for position in range(len(request.content)):
        changed = bytearray(request.content)
        changed[position] ^= 0x01
        tampered = case.altered(request, bytes(changed))
        assert not case.provider.authenticate(tampered, case.account("secret")), position


@each_signed
def test_content_with_something_appended_is_refused(case):
    request = case.request(case.item(GOOD, SENT))

    for more in (b" ", b"\n", b"&To=x", b"\0"):
        tampered = case.altered(request, request.content + more)
        assert not case.provider.authenticate(tampered, case.account("secret"))


@each_case
def test_a_missing_empty_cut_or_odd_signature_is_refused(case):
    request = case.request(case.item(GOOD, SENT))
    good = case.signature(request)
    account = case.account("secret")

    assert case.provider.authenticate(case.resign(request, good), account)
    assert not case.provider.authenticate(case.resign(request), account)
    for odd in (
        b"",
        b" ",
        good[:-1],
        good + b"=",
        b"" if case.either_case else good.swapcase(),
        b"sha256=",
        b"\xff\xfe",
        "é".encode(),
        b"a" * 10_000,
        b".",
        b"..",
        b"v1,",
        b"Bearer ",
        b"Basic =",
    ):
        assert not case.provider.authenticate(case.resign(request, odd), account), odd


@each_header
def test_one_good_signature_among_several_suffices(case):
    request = case.request(case.item(GOOD, SENT))
    good = case.signature(request)

    for several in ((good,), (b"\xff", good), (good, b""), (b"", b"x", good)):
        assert case.provider.authenticate(case.resign(request, *several), case.account("secret")), several


@pytest.mark.parametrize(
    ("case", "other"),
    [
        pytest.param(a, b, id=f"{a.name}-{b.name}")
        for a, b in product(CASES, CASES)
        if a.provider is not b.provider and not (a.scheme and a.scheme == b.scheme)
    ],
)
def test_another_providers_signature_is_refused(case, other):
    request = case.request(case.item(GOOD, SENT))

    assert not other.provider.authenticate(request, other.account("secret"))


ANY_BYTES = st.one_of(
    st.binary(max_size=64), st.text(max_size=32).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
ANY_HEADERS = st.lists(st.tuples(st.sampled_from(HEADER_NAMES).map(str.encode), ANY_BYTES), max_size=6)


@each_provider
@without_deadline
@example(
    headers=[(b"x-twilio-webhooks-signature-settings", b"\xff=,=,,")],
    body=b"\xff",
    url="https://[::1",
    secret=b"k",
    method="POST",
)
@example(
    headers=[(b"x-twilio-signature", b"x")],
    body=b"&" * 5_000,
    url="http://h:99999999?" + "&" * 50,
    secret=b"k",
    method="POST",
)
@example(headers=[(b"authorization", b"Bearer e30.e30.")], body=b"{}", url="x", secret=b"k", method="GET")
@example(
    headers=[(b"authorization", b"Bearer " + b"[" * 5_000 + b".e30.x")], body=b"", url="x", secret=b"k", method="POST"
)
@given(
    headers=ANY_HEADERS,
    body=ANY_BYTES,
    url=st.text(max_size=64).map("https://h/p?".__add__),
    secret=st.one_of(st.just(b""), st.binary(min_size=65, max_size=80)),  # longer than what a header may carry
    method=st.sampled_from(["POST", "GET"]),
)
def test_authentication_answers_no_to_any_headers_and_bytes(provider, *, headers, body, url, secret, method):
    webhook = Webhook(
        method=method,
        url=url,
        query=url.partition("?")[2].encode("utf-8", "surrogatepass"),
        headers=Headers(list({b"content-type": b"application/x-www-form-urlencoded", **dict(headers)}.items())),
        body=body,
        received_at=a_webhook().received_at,
    )
    account = an_account(provider.name, secret)

    assert provider.authenticate(webhook, account) is False
    assert provider.asks_again is None or provider.asks_again(webhook, account) in (True, False)
    assert provider.signed_text is None or isinstance(provider.signed_text(webhook, account), bytes | None)


@each_case
def test_what_was_signed_can_be_told_and_no_secret_is_in_it(case):
    request = case.request(case.item(GOOD, SENT), secret=b"a-secret-in-no-text")
    account = case.account(b"a-secret-in-no-text")

    told = case.provider.signed_text(request, account)

    assert (told is None) == (case.covers == "nothing")
    for secret in (b"a-secret-in-no-text", case.configured(b"a-secret-in-no-text")):
        assert told is None or secret not in told


# Vocabulary


@each_case
def test_every_word_of_the_table_gives_its_claim_and_is_kept_verbatim(case):
    for word, claim in case.provider.claims.items():
        for told in (word, word.upper(), f" {word.title()} "):
            (observation,) = case.parse(case.item(GOOD, told)).observations

            assert (told, claim) == (observation.provider_status, observation.claim)
            assert observation.claim is not UNRECOGNISED


@each_case
@pytest.mark.parametrize(
    "told", ["teleported", "DELIVERED!", "прочитано", "<b>read</b>", "-", "0", "a b", "\x1b[31m", "=1+1"]
)
def test_an_unknown_word_is_recorded_verbatim_and_claims_nothing(case, told):
    parsed = case.parse(case.item(GOOD, told))

    assert [(told, UNRECOGNISED)] == [(seen.provider_status, seen.claim) for seen in parsed.observations]
    assert parsed.observations[0].claim is UNRECOGNISED
    assert parsed.unreadable == ()


@each_provider
def test_the_table_is_lower_case_and_trimmed(provider):
    for word, claim in provider.claims.items():
        assert claim == claim_of(provider.claims, f" {word.upper()} ")


@each_case
def test_an_error_code_makes_no_failure(case):
    (observation,) = case.parse(case.item(GOOD, delivered(case))).observations

    assert observation.error_code is not None
    assert observation.claim.status == "DELIVERED"


def delivered(case):
    """Return the provider's first word for a delivery."""
    return next(word for word, claim in case.provider.claims.items() if claim.status is Status.DELIVERED)


# Fields


@each_case
def test_every_field_but_id_and_status_is_optional_and_null_equals_missing(case):
    item = case.item(GOOD, delivered(case))

    for path in case.optional(item):
        absent = [case.parse(less) for less in (without(item, path), with_value(item, path, None))]
        (missing,), (null,) = (list(parsed.observations) for parsed in absent)

        assert missing.provider_message_id == GOOD
        assert msgspec.structs.replace(missing, item=b"") == msgspec.structs.replace(null, item=b""), path


@each_case
@pytest.mark.parametrize("odd", [[], {}, [[]], {"a": {}}, True, 1.5, -1, "\0", "", "  ", 10**40, "x" * 100_000])
def test_an_optional_field_of_an_odd_kind_costs_nothing_but_itself(case, odd):
    item = case.item(GOOD, delivered(case))
    routing = {("type",), ("ChannelPrefix",)} if case.provider.name in ("meta", "twilio") else set()

    for path in case.optional(item):
        if path in routing:
            continue
        (observation,) = case.parse(with_value(item, path, odd)).observations

        assert (observation.provider_message_id, observation.claim.status) == (GOOD, "DELIVERED"), path
        assert_storable(observation)


@each_case
def test_a_status_that_is_missing_null_or_blank_is_captured_and_gives_no_observation(case):
    item = case.item(GOOD, delivered(case))
    if case.provider.name == "infobip":  # its group would speak for a name that is missing
        item = without(item, ("status", "groupName"))
    spoilt = [
        without(item, case.status_path),
        *(with_value(item, case.status_path, odd) for odd in (None, "", " ", "\0")),
    ]

    for bad in spoilt:
        parsed = case.parse(bad)

        assert parsed.observations == ()
        assert [case.evidence(bad)] == [each.item for each in parsed.unreadable]


@each_case
def test_an_id_that_is_missing_null_or_blank_is_captured_and_gives_no_observation(case):
    item = case.item(GOOD, delivered(case))
    spoilt = [without(item, case.id_path), *(with_value(item, case.id_path, odd) for odd in (None, "", " ", "\0"))]

    for bad in spoilt:
        parsed = case.outcome(case.request(bad))

        assert isinstance(parsed, Malformed) or (not parsed.observations and len(parsed.unreadable) == 1)


@each_json
def test_an_id_keeps_every_digit_and_is_never_a_float(case):
    item = case.item(GOOD, delivered(case))
    marker = json.dumps("<<here>>").encode()
    encoded = case.encode(with_value(item, case.id_path, "<<here>>"))

    for digits in (b"9007199254740993", b"18446744073709551615"):
        (observation,) = case.parse(encoded.replace(marker, digits)).observations
        assert observation.provider_message_id == digits.decode()
    for lossy in (b"1001.0", b"1e3", b"1e400", b"18446744073709551616", b"-1e2", b"true"):
        parsed = case.outcome(case.request(encoded.replace(marker, lossy)))
        assert isinstance(parsed, Malformed) or (not parsed.observations and len(parsed.unreadable) == 1), lossy


@each_case
def test_an_instant_is_in_utc_and_out_of_range_it_is_none(case):
    item = case.item(GOOD, delivered(case))
    timed = [path for path in paths(item) if path[-1] in TIMES]
    odd_times = ["0", "4977069964384421269", 4977069964384421269, "2026-10-15", "soon", -1, 10**30, "12:00:01Z"]
    odd_times += [] if case.zoneless_is_utc else ["2026-10-15T12:00:00"]

    (believable,) = case.parse(item).observations
    assert believable.occurred_at is None or str(believable.occurred_at.tzinfo) == "UTC"
    for odd in odd_times:
        spoilt = item
        for path in timed:
            spoilt = with_value(spoilt, path, odd)
        (observation,) = case.parse(spoilt).observations

        assert observation.occurred_at is None
    assert timed or believable.occurred_at is None


# Batches


@each_batch
def test_every_item_of_a_batch_is_observed_in_order(case):
    parsed = case.parse(*(case.item(str(number), delivered(case)) for number in range(1_000)))

    assert [str(number) for number in range(1_000)] == [seen.reference for seen in parsed.observations]


@each_batch
def test_the_order_of_a_batch_changes_nothing_but_the_order(case):
    items = [case.item(str(number), delivered(case)) for number in range(3)]
    told = {seen.reference: unplaced(seen) for seen in case.parse(*items).observations}

    turned = {seen.reference: unplaced(seen) for seen in case.parse(*reversed(items)).observations}

    assert told == turned


def unplaced(observation):
    """Return an observation less the event's name, which may count its place in a request."""
    return msgspec.structs.replace(observation, event_id=None)


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
    item = case.encode(case.item(GOOD, delivered(case)))

    assert [case.evidence(item)] == [seen.item for seen in case.parse(item).observations]


@each_batch
def test_a_batch_beyond_the_limit_is_malformed(case):
    parsed = case.outcome(case.request(*[b"{}"] * 10_001))

    assert isinstance(parsed, Malformed)


# Hostile input


def assert_storable(observation: Observation) -> None:
    """Assert what the store relies on: names that are not empty, texts that encode, instants that are aware."""
    assert observation.reference
    assert observation.provider_message_id
    assert observation.provider_status.strip()
    assert observation.part is None or 1 <= observation.part <= (observation.parts or 0)
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
    webhook = a_webhook(body, [("content-type", content_type)])

    assert_total(outcome(provider, webhook))
    assert provider.authenticate(webhook, an_account(provider.name, "k")) is False


@each_provider
@pytest.mark.parametrize("query", [pytest.param(body, id=name) for name, body in HOSTILE_BODIES.items()])
def test_a_hostile_query_is_parsed_or_malformed(provider, query):
    webhook = a_webhook(b"", {}, f"https://h/p?{query.decode('latin-1')}", "GET")

    assert_total(outcome(provider, webhook))
    assert provider.authenticate(webhook, an_account(provider.name, "k")) is False


@each_case
@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in HOSTILE_VALUES.items()])
def test_a_hostile_value_anywhere_is_parsed_or_malformed(case, value):
    item = case.item(GOOD, delivered(case))
    marker = json.dumps("<<here>>").encode()
    spots = [*paths(item), ("an-unused-field",)]

    for path in spots:
        if case.encode(item)[:1] == b"{":
            encoded = case.encode(with_value(item, path, "<<here>>")).replace(marker, value)
        else:
            encoded = case.encode(with_value(item, path, value[:20_000]))
        assert_total(case.outcome(case.request(encoded)))


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
        item = case.encode({**case.item(GOOD, delivered(case)), "unused": "<<here>>"})
        hostile = item.replace(b'"<<here>>"', HOSTILE_VALUES[name])

        assert [seen.provider_message_id for seen in case.parse(hostile).observations] == [GOOD], name


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
    if payload["body"][:1] in ("[", "{")
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
    alone = [unplaced(each) for each in case.parse(before, after).observations]

    together = case.parse(before, json.dumps(changed).encode(), after)

    assert alone == [unplaced(together.observations[0]), unplaced(together.observations[-1])]
    assert len(together.observations) + len(together.unreadable) + together.ignored == 3


@pytest.mark.parametrize(
    ("name", "payload"), all_recorded("webhook"), ids=lambda value: value if isinstance(value, str) else ""
)
def test_parsing_a_recorded_payload_twice_gives_equal_results(name, payload):
    provider, account = PROVIDERS[payload["provider"]], recorded_account(payload)

    assert outcome(provider, as_webhook(payload), account) == outcome(provider, as_webhook(payload), account)

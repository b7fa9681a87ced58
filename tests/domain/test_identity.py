"""Names: what makes two streams, two observations or two look-ups the same, and what must not."""

import hmac
import uuid
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.identity import (
    BUCKETS,
    MESSAGE_ID_MAX,
    Names,
    bucket,
    bucket_of_message,
    partition,
    request_digest,
)
from ledger.domain.observation import Source
from ledger.domain.status import Status
from tests.builders import NAMES, NOON, a_receipt, an_observation, at, observe_command

SECRET = b"a deployment secret made up for tests"
LONE_SURROGATE = "\ud83d"

#: Any text at all, lone surrogates included: JSON can spell them.
any_text = st.text(st.characters(exclude_categories=()))


@given(account=st.text(max_size=40), reference=st.text(max_size=80))
def test_stream_id_is_the_standard_librarys_uuid5_in_the_deployments_namespace(account: str, reference: str) -> None:
    namespace = uuid.UUID(bytes=hmac.digest(SECRET, b"status-ledger stream namespace", "sha256")[:16])

    stream_id = Names(SECRET).stream_id(account, reference)

    assert uuid.uuid5(namespace, f"{account}\x1f{reference}") == stream_id
    assert (stream_id.version, stream_id.variant) == (5, uuid.RFC_4122)


def test_stream_belongs_to_one_account_and_one_deployment() -> None:
    stream_id = NAMES.stream_id("account-1", "reference-1")

    assert stream_id == NAMES.stream_id("account-1", "reference-1")
    assert stream_id != NAMES.stream_id("account-2", "reference-1")
    assert stream_id != NAMES.stream_id("account-1", "reference-2")
    assert stream_id != Names(b"another secret of a deployment").stream_id("account-1", "reference-1")


def test_account_and_reference_cannot_be_shifted_into_each_other() -> None:
    assert NAMES.stream_id("account-1", "1") != NAMES.stream_id("account-", "11")


def test_short_deployment_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        Names(b"fifteen bytes..")


def test_observation_is_the_same_whenever_and_however_it_is_delivered() -> None:
    first = observe_command(Status.SENT, occurred_at=NOON, item=b'{"a":1,"price":"0.01"}', receipt=a_receipt())
    again = observe_command(
        Status.SENT,
        occurred_at=NOON,
        item=b'{"price":null,"a":1}',
        recipient_raw="+1 555 0100",
        receipt=a_receipt(received_at=at(60), request_digest=request_digest(b"another body")),
    )

    assert first.key == again.key
    assert first.item_digest != again.item_digest


@pytest.mark.parametrize("word", ["SENT", " sent", "Sent\n"])
def test_case_and_space_of_the_providers_word_make_no_difference(word: str) -> None:
    assert observe_command(provider_status="sent").key == observe_command(provider_status=word).key


@pytest.mark.parametrize(
    "difference",
    [
        {"reference": "reference-1/member-2"},
        {"part": "2"},
        {"provider_status": "delivered"},
        {"occurred_at": NOON + timedelta(microseconds=1)},
        {"occurred_at": None},
        {"event_id": "event-1"},
        {"error_code": "30003"},
        {"receipt": a_receipt(source=Source.POLL)},
    ],
    ids=["member of a group", "part", "word", "time", "no time", "event", "code", "source"],
)
def test_observation_differs_by_what_it_says(difference: dict[str, Any]) -> None:
    usual = {"occurred_at": NOON}

    assert observe_command(**usual).key != observe_command(**(usual | difference)).key


def test_event_id_goes_before_the_time_and_the_time_before_the_date_text() -> None:
    named = [observe_command(event_id="event-1", occurred_at=at(n), date_text=str(n)).key for n in range(2)]
    timed = [observe_command(occurred_at=NOON, date_text=str(n)).key for n in range(2)]
    dated = [observe_command(date_text=str(n)).key for n in range(2)]

    assert named[0] == named[1]
    assert timed[0] == timed[1]
    assert dated[0] != dated[1]


def test_observation_key_does_not_depend_on_the_claim_read_from_the_word() -> None:
    as_sent = an_observation(Status.SENT, provider_status="buffered")
    as_queued = an_observation(Status.QUEUED, provider_status="buffered")

    assert NAMES.observation(Source.CALLBACK, as_sent) == NAMES.observation(Source.CALLBACK, as_queued)


@given(text=any_text)
def test_any_text_can_be_named(text: str) -> None:
    said = an_observation(reference=text, provider_status=text, event_id=text, error_code=text)

    assert NAMES.stream_id("account-1", text).version == 5
    assert len(NAMES.observation(Source.CALLBACK, said, text)) == 16
    assert len(NAMES.lookup("account-1", "recipient", text)) == 16


def test_lone_surrogate_is_named_and_is_not_its_replacement() -> None:
    assert NAMES.stream_id("account-1", LONE_SURROGATE) != NAMES.stream_id("account-1", "�")
    assert NAMES.lookup("account-1", "recipient", LONE_SURROGATE) != NAMES.lookup("account-1", "recipient", "?")


def test_lookup_belongs_to_one_account_and_one_kind_of_value() -> None:
    value = NAMES.lookup("account-1", "recipient", "+15550100")

    assert value == NAMES.lookup("account-1", "recipient", "+15550100")
    assert value != NAMES.lookup("account-2", "recipient", "+15550100")
    assert value != NAMES.lookup("account-1", "client_reference", "+15550100")
    assert value != NAMES.lookup("account-1", "recipient", "+15550101")


def test_names_of_different_purposes_differ() -> None:
    assert NAMES.digest("account-1", "recipient", "1") != NAMES.lookup("account-1", "recipient", "1")


def test_item_digest_is_keyed() -> None:
    assert NAMES.item_digest(b"{}") != Names(b"another secret of a deployment").item_digest(b"{}")
    assert len(NAMES.item_digest(b"")) == 16
    assert NAMES.content_digest(b"{}").startswith(NAMES.item_digest(b"{}"))
    assert len(NAMES.content_digest(b"")) == len(request_digest(b"")) == 32


@given(number=st.integers(0, MESSAGE_ID_MAX // BUCKETS - 1), stream_id=st.uuids(version=5), width=st.integers(0, 8))
def test_message_id_routes_to_the_bucket_of_its_stream(number: int, stream_id: uuid.UUID, width: int) -> None:
    message_id = number * BUCKETS + bucket(stream_id)

    assert bucket(stream_id) == bucket_of_message(message_id)
    assert partition(stream_id, 1 << width) == bucket_of_message(message_id) % (1 << width)
    assert message_id <= MESSAGE_ID_MAX

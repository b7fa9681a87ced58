"""The row of a message: what it is derived to, and that it is stored so, whatever happened."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.message import Command, Message
from ledger.domain.observation import Source
from ledger.domain.status import Channel, Conflict, FailureKind, Outcome, Status
from ledger.store import snapshot
from ledger.store.application import Ledger
from ledger.store.rows import NO_LOOKUP, StatusRow
from ledger.store.sealing import DataKey
from projections import current_status
from projections.current_status import CurrentStatus
from tests.builders import (
    NAMES,
    a_claim,
    a_message,
    a_receipt,
    at,
    correct_command,
    observe_command,
    observed,
    register_command,
)
from tests.plugins.ledger import Pen
from tests.projections import rebuilding
from tests.statements import ACCOUNT, a_registration, a_sender, an_account, registered, says, stream_of

STREAM = stream_of("reference-1")
KEY = DataKey(bytes(32))


def row_of(*commands: Command, stream_id: UUID = STREAM, key: DataKey | None = KEY) -> StatusRow:
    """Return the row of a message with this history."""
    return current_status.row(NAMES, a_message(*commands), stream_id=stream_id, version=7, first=3, last=4, key=key)


# Apply ----------------------------------------------------------------------------------------------------------------


def test_a_row_tells_account_provider_channel_and_place() -> None:
    row = row_of(observed(Status.SENT, 1))

    assert (row.account, row.provider, row.channel) == ("account-1", "provider-1", "sms")
    assert (row.stream_id, row.first, row.last, row.linked_to) == (STREAM, 3, 4, None)


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([observed(Status.QUEUED, 1)], {"status": "QUEUED", "last_updated": at(1)}),
        ([observed(Status.SENT, 1)], {"status": "SENT", "sent_at": at(1), "last_updated": at(1)}),
        (
            [observed(Status.READ, 3), observed(Status.SENT, 1)],
            {"status": "READ", "sent_at": at(1), "delivered_at": at(3), "read_at": at(3), "last_updated": at(3)},
        ),
        (
            [observed(Status.DELETED, 3)],
            {"status": "DELETED", "sent_at": at(3), "delivered_at": at(3), "read_at": None, "last_updated": at(3)},
        ),
        ([observed(Status.FAILED, 2)], {"status": "FAILED", "failed_at": at(2), "sent_at": None}),
        (
            [observed(Status.FAILED, 2), observed(Status.DELIVERED, 3)],
            {"status": "FAILED", "failed_at": at(2), "delivered_at": at(3), "conflict": "open"},
        ),
        (
            [observed(Status.FAILED, 2), observed(Status.DELIVERED, 3), correct_command(Outcome.DELIVERED)],
            {"status": "DELIVERED", "failed_at": at(2), "delivered_at": at(3), "conflict": "settled"},
        ),
        (
            [observe_command(Status.SENT, receipt=a_receipt(received_at=at(5)))],
            {"status": "SENT", "sent_at": at(5), "last_updated": at(5)},
        ),
        ([register_command(receipt=a_receipt(received_at=at(4)))], {"status": "UNKNOWN", "last_updated": at(4)}),
        ([observed(Status.UNKNOWN, 6)], {"status": "UNKNOWN", "last_updated": at(6), "sent_at": None}),
    ],
)
def test_a_row_shows_status_conflict_and_times(commands: list[Command], expected: dict[str, Any]) -> None:
    row = row_of(*commands)

    assert {name: getattr(row, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("provider", "code", "text", "category"),
    [
        ("meta", "131026", None, "recipient"),
        ("twilio", "30003", "Unreachable destination handset", "recipient"),
        ("provider-1", None, "Invalid phone number", "recipient"),
        ("provider-1", "999", "something else", "unknown"),
        ("provider-1", None, None, "unknown"),
    ],
)
def test_a_failed_row_has_the_category_of_its_reason(
    provider: str, code: str | None, text: str | None, category: str
) -> None:
    told = observe_command(Status.FAILED, error_code=code, error_text=text, receipt=a_receipt(provider=provider))

    assert row_of(told).failure_category == category


def test_a_code_without_a_failure_has_no_category() -> None:
    """An error code never makes a failure."""
    told = observe_command(Status.DELIVERED, error_code="131026", receipt=a_receipt(provider="meta"))

    assert row_of(told).failure_category is None


def test_a_failure_that_lost_its_conflict_has_no_category() -> None:
    row = row_of(observed(Status.DELIVERED, 1), observed(Status.FAILED, 2, error_code="131026"))

    assert (row.status, row.failure_category) == ("DELIVERED", None)


def test_the_senders_own_failure_is_explained_as_such() -> None:
    told = observe_command(
        Status.FAILED, error_code="phone_missing", receipt=a_receipt(provider="meta", source=Source.SENDER)
    )

    reason = current_status.reason(a_message(told))

    assert reason is not None
    assert (reason.category, reason.stage) == ("recipient", "validation")
    assert row_of(told).failure_category == "recipient"


def test_a_message_that_has_not_failed_has_no_reason() -> None:
    assert current_status.reason(a_message(observed(Status.READ, 1))) is None


# Look-ups -------------------------------------------------------------------------------------------------------------


def test_lookups_are_keyed_digests_of_what_people_search_by() -> None:
    row = row_of(observed(Status.SENT, 1, recipient="+15550100", client_reference="order-1"))

    assert row.recipient_lookup == NAMES.lookup("account-1", "recipient", "+15550100")
    assert row.reference_lookup == NAMES.lookup("account-1", "client_reference", "order-1")
    assert row.recipient_lookup != NAMES.lookup("account-2", "recipient", "+15550100")


def test_what_is_not_known_has_no_lookup() -> None:
    row = row_of(observed(Status.SENT, 1, recipient=None, client_reference=None))

    assert (row.recipient_lookup, row.reference_lookup) == (None, None)


def test_the_providers_id_has_a_lookup_only_where_the_streams_name_does_not_follow_from_it() -> None:
    """Several recipients share an id in a group; everywhere else the stream is found by its name."""
    told = observed(Status.SENT, 1, provider_message_id="wamid", reference="wamid/participant")

    assert row_of(told, stream_id=stream_of("wamid")).provider_lookup is None
    expected = NAMES.lookup("account-1", "provider_message_id", "wamid")
    assert row_of(told, stream_id=stream_of("wamid/participant")).provider_lookup == expected


def test_an_erased_message_has_no_lookups() -> None:
    row = row_of(observed(Status.SENT, 1, client_reference="order-1"), stream_id=uuid4(), key=None)

    assert (row.provider_lookup, row.recipient_lookup, row.reference_lookup) == (NO_LOOKUP,) * 3


def test_nothing_that_can_be_looked_up_stands_in_the_row(ledger: Ledger, pen: Pen) -> None:
    told = {"recipient": "+15550100777", "client_reference": "order-canary", "participant": "member-canary"}
    pen.write(says(Status.SENT, 1, reference="wamid-canary", provider_message_id="id-canary", **told))

    with ledger.reading() as cursor:
        (row,) = cursor.execute("SELECT c::text, c.state FROM current_status c").fetchall()

    searched = (row[0] + row[0].replace("\\x", "")).encode() + row[1]
    canaries = [*told.values(), "5550100777", "wamid-canary", "id-canary"]
    forms = [form for canary in canaries for form in (canary.encode(), canary.encode().hex().encode())]
    assert [form for form in forms if form in searched] == []


# Stored = derived -----------------------------------------------------------------------------------------------------

_claims = st.tuples(
    st.sampled_from(Status),
    st.sampled_from(FailureKind),
    st.none() | st.integers(0, 5),
    st.sampled_from(["", "a", "b"]),
)


@given(history=st.lists(_claims, min_size=1, max_size=6))
def test_a_stored_row_is_what_its_events_amount_to(
    shared_ledger: Ledger, shared_pen: Pen, history: list[tuple[Any, ...]]
) -> None:
    account = an_account()
    for n, (status, kind, minute, text) in enumerate(history):
        claim = a_claim(status, kind if status is Status.FAILED else None)
        shared_pen.write(says(claim, minute, account=account, error_text=text or None, event_id=str(n), received=9))

    assert rebuilding.differences(shared_ledger, stream_of(account=account)) == []


def test_a_row_made_again_says_nothing_new(ledger: Ledger, pen: Pen) -> None:
    """Look-ups and the sealed part are carried along until there is something else to look up or to seal."""
    pen.write(says(Status.FAILED, 1, error_text="no route"))
    before = rebuilding.stored_rows(ledger)[STREAM]
    (loaded,) = ledger.load([STREAM])

    again = current_status.row(
        NAMES, loaded.snapshot.message, stream_id=STREAM, version=2, first=0, last=1, key=loaded.key,
        before=loaded.snapshot,
    )  # fmt: skip

    assert again.state == before["state"]
    assert (again.provider_lookup, again.recipient_lookup, again.reference_lookup) == (None, None, None)


def test_what_becomes_known_later_can_be_looked_up(ledger: Ledger, pen: Pen) -> None:
    pen.write(says(Status.SENT, 1, recipient=None))
    pen.write(says(Status.DELIVERED, 2, recipient="+15550100"))
    pen.write(says(Status.READ, 3, recipient="+15550100"))

    assert rebuilding.stored_rows(ledger)[STREAM]["recipient_lookup"] == NAMES.lookup(ACCOUNT, "recipient", "+15550100")


# Query ----------------------------------------------------------------------------------------------------------------


def test_an_unknown_id_is_nothing(messages: CurrentStatus, pen: Pen) -> None:
    pen.write(says())

    assert [messages.get(id_) for id_ in (0, -1, 1, 2**53 - 1, 2**70)] == [None] * 5
    assert messages.of_stream(uuid4()) is None


def test_a_message_is_read_by_its_id_and_by_its_stream(shaped_ledger: Ledger, start_writer: Any) -> None:
    pen, messages, account = start_writer(shaped_ledger), CurrentStatus(shaped_ledger), an_account()
    pen.write(*(says(Status.SENT, 1, reference=f"message-{n}", account=account) for n in range(40)))

    for n in range(40):
        by_stream = messages.of_stream(stream_of(f"message-{n}", account))
        assert by_stream is not None
        assert messages.get(by_stream.message_id) == by_stream
        assert by_stream.message.person.provider_message_id == f"message-{n}"


def test_an_id_with_another_bucket_is_not_the_message(messages: CurrentStatus, pen: Pen) -> None:
    """Ids are not to be guessed from one another: position alone does not name a message."""
    pen.write(says())
    opened = messages.of_stream(STREAM)
    assert opened is not None

    guesses = [opened.message_id // 256 * 256 + bucket for bucket in range(256)]

    assert [messages.get(guess) is not None for guess in guesses].count(True) == 1


def test_an_erased_message_is_read_without_the_person(messages: CurrentStatus, pen: Pen, ledger: Ledger) -> None:
    pen.write(says(Status.FAILED, 1, error_text="no route"))
    with ledger.reading() as cursor:
        cursor.execute("DELETE FROM message_keys")

    opened = messages.of_stream(STREAM)

    assert opened is not None
    assert opened.message.status is Status.FAILED
    assert opened.message.person == Message().person
    assert [failure.text for failure in opened.message.evidence.failures] == [""]


def test_the_id_of_a_registration_leads_to_the_message_it_was_linked_to(messages: CurrentStatus, pen: Pen) -> None:
    job, own = registered(b"registration-001")
    pen.do(job)
    before = messages.of_stream(own)
    assert before is not None
    told = a_registration(provider_message_id="provider-1")
    pen.do(a_sender().hand_off(own, before.message_id, told, at(2))[0])

    by_old_id = messages.get(before.message_id)
    by_stream = messages.of_stream(stream_of("provider-1"))

    assert by_old_id == by_stream
    assert by_stream is not None
    assert by_stream.message_id != before.message_id
    assert by_stream.shown_id == before.message_id


def test_a_version_grows_with_everything_that_changes_a_message(messages: CurrentStatus, pen: Pen) -> None:
    versions = []
    for statement in (says(Status.FAILED, 1), says(Status.SENT, 2), says(Status.DELIVERED, 3), says(Status.SENT, 2)):
        pen.write(statement)
        opened = messages.of_stream(STREAM)
        assert opened is not None
        versions.append(opened.version)

    assert versions == [1, 2, 3, 3]


def test_a_snapshot_in_a_row_is_the_message(ledger: Ledger, pen: Pen) -> None:
    pen.write(says(Status.FAILED, 1, error_text="no route"))
    row = rebuilding.stored_rows(ledger)[STREAM]
    (loaded,) = ledger.load([STREAM])

    message = snapshot.decode(row["state"], STREAM, loaded.key).message

    assert (message.status, message.conflict, message.channel) == (Status.FAILED, Conflict.NONE, Channel.SMS)
    assert message.evidence.failures[0].text == "no route"

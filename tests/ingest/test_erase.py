"""Erasing people: what goes, what stays, and that it does not come back."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.events import MessageErased, StatusObserved
from ledger.domain.message import Person
from ledger.domain.status import FailureKind, Status
from ledger.ingest.erase import orders
from ledger.ingest.register import LocalFailure
from ledger.proof import notes
from ledger.store import captures, holds
from ledger.store.application import Ledger, StreamMoved
from ledger.store.captures import Capture
from ledger.store.erasing import Erasing
from ledger.store.scrubs import Erased, Scrub
from ledger.store.verifying import verify
from projections.current_status import RECIPIENT, REFERENCE, CurrentStatus
from tests.builders import a_claim, at
from tests.ingest.erasing import an_eraser, erase_recipient
from tests.plugins.ledger import Pen
from tests.projections import rebuilding
from tests.statements import a_registration, a_sender, an_account, registered, says, stream_of
from tests.store.evidence import KEY, signed

PHONE = "+15550111222"


@pytest.fixture
def list_(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "erasures.jsonl"


def keys(ledger: Ledger) -> int:
    with ledger.reading() as cursor:
        row = cursor.execute("SELECT count(*) FROM message_keys").fetchone()
    assert row is not None
    return int(row[0])


def test_an_erased_message_keeps_status_and_times_and_loses_the_person(
    ledger: Ledger, pen: Pen, messages: CurrentStatus, list_: Path
) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE, client_reference="order-1", error_text="for Ann"))
    pen.write(says(Status.FAILED, 2, error_code="131026", error_text="Ann has no WhatsApp", recipient=PHONE))
    before = messages.of_stream(stream_of())

    outcome = erase_recipient(ledger, list_, PHONE)

    after = messages.of_stream(stream_of())
    assert before is not None
    assert after is not None
    assert (outcome.messages, outcome.streams, outcome.keys) == (1, 1, 1)
    assert (after.message.status, after.message.kind) == (Status.FAILED, before.message.kind)
    assert after.message.evidence.first_at == before.message.evidence.first_at
    assert after.message.version == before.message.version
    assert after.message.person == Person()
    assert [failure.text for failure in after.message.evidence.failures] == [""]
    assert after.message.erased_at is not None


def test_history_shows_everything_but_the_person_and_who_erased_it(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE), says(Status.DELIVERED, 2, recipient=PHONE))

    outcome = erase_recipient(ledger, list_, PHONE)

    *observed, erased = [recorded.event for recorded in ledger.history(stream_of())]
    assert [event.claim for event in observed if isinstance(event, StatusObserved)] == ["SENT", "DELIVERED"]
    assert all(event.personal == type(event.personal)() for event in observed if isinstance(event, StatusObserved))
    assert isinstance(erased, MessageErased)
    assert (erased.by, erased.why) == ("privacy-officer", "asked to be forgotten")
    assert erased.erasure == outcome.erasure_id.bytes


def test_only_the_person_who_asked_is_erased(ledger: Ledger, pen: Pen, messages: CurrentStatus, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE), says(Status.SENT, 1, reference="other", recipient="+15550999"))

    erase_recipient(ledger, list_, PHONE)

    other = messages.of_stream(stream_of("other"))
    assert other is not None
    assert other.message.person.recipient == "+15550999"
    assert other.message.erased_at is None


def test_a_person_is_found_in_every_account(ledger: Ledger, pen: Pen) -> None:
    accounts = [an_account() for _ in range(3)]
    pen.write(*(says(Status.SENT, 1, account=account, recipient=PHONE) for account in accounts))
    pen.write(says(Status.SENT, 1, account=accounts[0], reference="other", client_reference="order-77"))

    erasing = Erasing(ledger, ())

    assert erasing.accounts() == sorted(accounts)
    assert set(erasing.found(RECIPIENT, PHONE)) == {stream_of(account=account) for account in accounts}
    assert erasing.found(REFERENCE, "order-77") == [stream_of("other", accounts[0])]
    assert erasing.found(RECIPIENT, "+1555") == []


def test_looking_changes_nothing(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE))
    before = rebuilding.stored_rows(ledger)

    found = an_eraser(ledger, list_).look([stream_of()])

    assert (found.messages, len(found.streams)) == (1, 1)
    assert rebuilding.stored_rows(ledger) == before
    assert not list_.exists()


def test_nothing_can_be_searched_for_any_more(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE, client_reference="order-1"))

    erase_recipient(ledger, list_, PHONE)

    erasing = Erasing(ledger, ())
    assert erasing.found(RECIPIENT, PHONE) == erasing.found(REFERENCE, "order-1") == []


@pytest.mark.parametrize("again", ["the same report", "a new report", "a registration"])
def test_what_comes_again_does_not_bring_the_person_back(
    ledger: Ledger, pen: Pen, messages: CurrentStatus, list_: Path, again: str
) -> None:
    """A repeat is recognised; what is new counts, and says nothing about anybody."""
    pen.write(says(Status.SENT, 1, recipient=PHONE))
    erase_recipient(ledger, list_, PHONE)

    if again == "the same report":
        assert pen.write(says(Status.SENT, 1, recipient=PHONE)).redelivered == 1
    elif again == "a new report":
        pen.write(says(Status.DELIVERED, 2, recipient=PHONE, error_text="for Ann"))
    else:
        registration = a_registration(provider_message_id="reference-1", recipient=PHONE)
        sender = a_sender()
        pen.do(sender.register(sender.stream_of(registration, b""), registration, b"again", at(3)))

    found = messages.of_stream(stream_of())
    assert found is not None
    assert found.message.person == Person()
    assert found.message.status is (Status.DELIVERED if again == "a new report" else Status.SENT)
    assert keys(ledger) == 0
    assert Erasing(ledger, ()).found(RECIPIENT, PHONE) == []
    assert rebuilding.differences(ledger) == []


def test_a_message_that_was_handed_off_is_erased_with_its_registration(
    ledger: Ledger, pen: Pen, messages: CurrentStatus, list_: Path
) -> None:
    job, waiting = registered(b"one", a_registration(recipient=PHONE, metadata={"name": "Ann"}))
    pen.do(job)
    handed_off = a_registration(provider_message_id="reference-1", recipient=None, client_reference=None)
    pen.do(a_sender().hand_off(waiting, 256, handed_off, at(1))[0])

    outcome = erase_recipient(ledger, list_, PHONE)

    assert (outcome.messages, outcome.streams, outcome.keys) == (1, 2, 2)
    assert keys(ledger) == 0
    for recorded in ledger.history(stream_of()):
        assert "Ann" not in repr(recorded.event)
        assert PHONE not in repr(recorded.event)
    assert rebuilding.differences(ledger) == []


_reports = st.lists(
    st.tuples(
        st.sampled_from([Status.SENT, Status.DELIVERED, Status.FAILED, Status.READ]),
        st.sampled_from(["", "no route", "Ann is away"]),
        st.none() | st.integers(0, 5),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=25)
@given(before=_reports, after=_reports)
def test_whatever_was_said_rebuilding_after_an_erasure_equals_live(
    shared_ledger: Ledger, shared_pen: Pen, tmp_path_factory: Any, before: Any, after: Any
) -> None:
    account = an_account()
    list_ = tmp_path_factory.getbasetemp() / "erasures.jsonl"

    def say(reports: Any, begin: int) -> None:
        for number, (status, text, minute) in enumerate(reports, start=begin):
            claim = a_claim(status, FailureKind.FAILED if status is Status.FAILED else None)
            shared_pen.write(
                says(claim, minute, account=account, error_text=text or None, event_id=str(number), recipient=PHONE)
            )

    say(before, 0)
    eraser = an_eraser(shared_ledger, list_)
    eraser.erase(eraser.look([stream_of(account=account)]), by="a", why="b")
    say(after, 100)

    assert rebuilding.differences(shared_ledger, stream_of(account=account)) == []


def test_an_erasure_changes_no_result_of_verification(
    ledger: Ledger, pen: Pen, database_url: str, list_: Path, tmp_path: Path
) -> None:
    pen.write(*(says(Status.SENT, 1, reference=str(number), recipient=PHONE) for number in range(20)))
    before = signed(database_url, tmp_path / "checkpoints")
    first = verify(database_url, checkpoints=before)

    erase_recipient(ledger, list_, PHONE)

    second = verify(database_url, checkpoints=before + signed(database_url, tmp_path / "checkpoints"))
    assert (first.ok, first.checked, second.ok, second.checked) == (True, 20, True, 40)


def test_an_erasure_done_again_does_nothing(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE))
    erase_recipient(ledger, list_, PHONE)
    eraser = an_eraser(ledger, list_)

    found = eraser.look([stream_of()])
    replayed = [eraser.replay(order) for order in orders(list_)]

    assert (found.messages, found.erased) == (0, 1)
    assert replayed == [None]
    assert len(ledger.history(stream_of())) == 2


# Certificate and list -------------------------------------------------------------------------------------------------


def test_the_certificate_is_signed_and_names_what_was_done(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE))

    outcome = erase_recipient(ledger, list_, PHONE)

    lines = notes.opened(outcome.certificate, [KEY.renamed(outcome.certificate.split("\n")[1][4:])]).splitlines()
    recorded = ledger.history(stream_of())[-1]
    assert lines[0] == "status-ledger erasure certificate v1"
    assert lines[2] == f"erasure {outcome.erasure_id}"
    assert lines[4:9] == [
        "by privacy-officer",
        "why asked to be forgotten",
        "streams 1",
        "keys deleted 1",
        "captures deleted 0",
    ]
    assert lines[9:] == [f"event p0 {recorded.position} {stream_of()} {recorded.hash.hex()}"]
    assert Erasing(ledger, ()).all()[0].certificate == outcome.certificate


def test_the_list_names_streams_and_nobody(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE, client_reference="order-1"))

    outcome = erase_recipient(ledger, list_, PHONE)

    (order,) = orders(list_)
    assert (order.erasure_id, [told.stream_id for told in order.streams]) == (outcome.erasure_id, [stream_of()])
    assert PHONE[1:] not in list_.read_text()
    assert "order-1" not in list_.read_text()
    assert list_.stat().st_mode & 0o077 == 0


def test_a_line_of_the_list_that_was_cut_short_is_left_out(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE))
    erase_recipient(ledger, list_, PHONE)
    whole = list_.read_bytes()

    list_.write_bytes(whole + whole[:-1])

    assert len(orders(list_)) == 1


def test_what_a_restored_database_does_not_know_stays_erased_when_it_is_heard_of(
    ledger: Ledger, pen: Pen, list_: Path, shared_ledger: Ledger, shared_pen: Pen
) -> None:
    """The message was opened and erased after the backup, and the provider repeats its callbacks after the restore."""
    account = an_account()
    shared_pen.write(says(Status.SENT, 1, account=account, recipient=PHONE))
    eraser = an_eraser(shared_ledger, list_)
    eraser.erase(eraser.look([stream_of(account=account)]), by="a", why="b")

    outcomes = [an_eraser(ledger, list_).replay(order) for order in orders(list_)]
    pen.write(says(Status.SENT, 1, account=account, recipient=PHONE))

    assert [outcome.streams for outcome in outcomes if outcome is not None] == [1]
    found = CurrentStatus(ledger).of_stream(stream_of(account=account))
    assert found is not None
    assert (found.message.status, found.message.person) == (Status.SENT, Person())
    assert keys(ledger) == 0
    assert rebuilding.differences(ledger) == []


# Captures and read models ---------------------------------------------------------------------------------------------


def capture(content: bytes) -> Capture:
    return Capture(
        account="account-1",
        provider="provider-1",
        reason="unreadable",
        content=content,
        content_type="application/json",
        received_at=at(0),
    )


def test_captures_that_name_the_person_are_deleted_and_others_stay(ledger: Ledger, pen: Pen, list_: Path) -> None:
    naming = [
        b'{"to": "15550111222"}',
        b"To=whatsapp%3A%2B15550111222&x=1",
        b'{"id":"reference-1","oops":',
    ]
    others = [b'{"to": "15550111223"}', b"reference-10", b"\xff\xfe\x00"]
    pen.write(says(Status.SENT, 1, recipient=PHONE), captures=[capture(content) for content in (*naming, *others)])

    outcome = erase_recipient(ledger, list_, PHONE)

    with ledger.reading() as cursor:
        rows = cursor.execute("SELECT sealed, wrapped, capture_id FROM captures").fetchall()
    assert outcome.captures == len(naming)
    assert sorted(captures.opened(*row, ledger.master_key)[1] for row in rows) == sorted(others)


def test_a_person_without_a_message_is_looked_for_in_captures(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient="+15550999"), captures=[capture(b"to 15550111222")])

    assert erase_recipient(ledger, list_, PHONE).captures == 1


def test_read_models_are_scrubbed_in_the_transaction_that_deletes_the_keys(
    ledger: Ledger, pen: Pen, list_: Path
) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE))
    told: list[tuple[Erased, ...]] = []

    def scrub(cursor: Any, erased: Any) -> int:
        (count,) = cursor.execute("SELECT count(*) FROM message_keys").fetchone()
        told.append(tuple(erased))
        return 6 + int(count)  # the keys are still there

    outcome = erase_recipient(ledger, list_, PHONE, [Scrub("letters", scrub)])

    (recorded, _) = ledger.history(stream_of())
    assert outcome.scrubbed == {"letters": 7}
    assert "letters 7\n" in outcome.certificate
    assert told == [(Erased(0, stream_of(), recorded.position * 256 + stream_of().bytes[0]),)]


def test_a_scrub_that_fails_leaves_everything_as_it_was(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE))

    def scrub(_cursor: Any, _erased: Any) -> int:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        erase_recipient(ledger, list_, PHONE, [Scrub("letters", scrub)])

    assert keys(ledger) == 1
    assert len(ledger.history(stream_of())) == 1


# Holds and races ------------------------------------------------------------------------------------------------------


def test_a_held_message_is_not_erased_until_it_is_released(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE), says(Status.SENT, 1, reference="held", recipient=PHONE))
    assert holds.place(ledger, [stream_of("held")], "counsel", "case 1") == 1

    first = erase_recipient(ledger, list_, PHONE)
    assert holds.release(ledger, [stream_of("held")]) == 1
    second = erase_recipient(ledger, list_, PHONE)

    assert (first.messages, first.held, second.messages, second.held) == (1, 1, 1, 0)
    assert keys(ledger) == 0


def test_a_hold_that_is_placed_after_looking_wins(ledger: Ledger, pen: Pen, list_: Path) -> None:
    pen.write(says(Status.SENT, 1, recipient=PHONE))
    eraser = an_eraser(ledger, list_)
    found = eraser.look([stream_of()])
    holds.place(ledger, [stream_of()], "counsel", "case 1")

    outcome = eraser.erase(found, by="a", why="b")

    assert outcome.streams == 0
    assert keys(ledger) == 1


def test_a_hold_that_is_placed_at_the_last_moment_wins(
    ledger: Ledger, pen: Pen, list_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After everything was looked at: only the transaction that deletes the keys sees it."""
    pen.write(says(Status.SENT, 1, recipient=PHONE))
    eraser = an_eraser(ledger, list_)
    found = eraser.look([stream_of()])
    holds.place(ledger, [stream_of()], "counsel", "case 1")
    monkeypatch.setattr(Erasing, "held", lambda _self, _streams: set())

    with pytest.raises(StreamMoved, match="legal hold"):
        eraser.erase(found, by="a", why="b")

    assert keys(ledger) == 1
    assert len(ledger.history(stream_of())) == 1


def test_erasing_while_reports_come_in_loses_neither(
    ledger: Ledger, pen: Pen, list_: Path, start_writer: Callable[..., Pen]
) -> None:
    references = [f"message-{number}" for number in range(30)]
    pen.write(*(says(Status.SENT, 1, reference=reference, recipient=PHONE) for reference in references))

    def report() -> None:
        for status, minute in ((Status.DELIVERED, 2), (Status.READ, 3)):
            for reference in references:
                pen.write(says(status, minute, reference=reference, recipient=PHONE))

    reporting = threading.Thread(target=report)
    reporting.start()
    outcome = erase_recipient(ledger, list_, PHONE)
    reporting.join()

    assert (outcome.messages, keys(ledger)) == (30, 0)
    assert rebuilding.differences(ledger) == []
    for reference in references:
        events = [recorded.event for recorded in ledger.history(stream_of(reference))]
        assert sum(isinstance(event, StatusObserved) for event in events) == 3
        assert PHONE not in repr(events)


def test_a_failure_of_the_sender_is_erased_with_the_rest(ledger: Ledger, pen: Pen, list_: Path) -> None:
    job, stream_id = registered(b"one", a_registration(recipient=PHONE))
    pen.do(job)
    pen.do(a_sender().fail(stream_id, a_registration().channel, LocalFailure("Ann's number is wrong"), at(1)))

    erase_recipient(ledger, list_, PHONE)

    assert "Ann" not in repr(ledger.history(stream_id))
    assert rebuilding.differences(ledger) == []

"""Which messages belong to a conversation: derived from events, live or rebuilt; gone with a message's key."""

from collections.abc import Callable
from typing import Any

import pytest

from ledger.domain.status import Status
from ledger.ingest.writer import Job
from ledger.store.application import Ledger
from projections.conversations import Conversations, SentMessages
from projections.current_status import CurrentStatus
from tests.ingest.erasing import an_eraser
from tests.plugins.ledger import Pen, Shape
from tests.projections.following import difference, follow, rows
from tests.statements import a_registration, a_sender, an_account, registered, says

CONVERSATIONS = Conversations()
SHAPES = (Shape(1), Shape(16, hash_partitions=16))


@pytest.fixture(params=SHAPES, ids=str)
def divided(request, followed_ledgers: Callable[[Shape], Ledger]) -> Ledger:
    return followed_ledgers(request.param)


@pytest.fixture
def writer(divided, start_writer: Callable[..., Pen]) -> Pen:
    return start_writer(divided)


def register(pen: Pen, account: str, name: bytes, **told: Any) -> Any:
    """Register a message; return its stream."""
    job, stream = registered(name, a_registration(**told), account)
    pen.do(job)
    return stream


def found(ledger: Ledger, *accounts: str, conversation: str | None = "talk-1", **told: Any) -> list[Any]:
    """Return the streams of what is found, newest first."""
    options = {"recipient": None, "before": None, "limit": 50, **told}
    sent = SentMessages(ledger, CurrentStatus(ledger))
    return [opened.stream_id for opened in sent.newest(accounts, conversation_id=conversation, **options)]


def test_messages_of_a_conversation_are_found_newest_first_once_the_feed_has_read_them(divided, writer):
    account = an_account()
    first = register(writer, account, b"registration-001", conversation_id="talk-1")
    second = register(writer, account, b"registration-002", conversation_id="talk-1", recipient="+15550101")
    register(writer, account, b"registration-003", conversation_id="talk-2")
    register(writer, account, b"registration-004")

    follow(divided, projection=CONVERSATIONS)

    assert found(divided, account) == [second, first]


def test_a_message_that_was_handed_off_is_found_as_the_one_that_speaks_for_it(divided, writer):
    account = an_account()
    waiting = register(writer, account, b"registration-001", conversation_id="talk-1")
    opened = CurrentStatus(divided).of_stream(waiting)
    assert opened is not None
    registration = a_registration(provider_message_id="provider-1")
    sender = a_sender(account)
    job, leading = sender.hand_off(waiting, opened.message_id, registration, opened.opened_at, None)
    writer.do(job)
    writer.do(Job((says(Status.DELIVERED, 1, reference="provider-1", account=account),)))

    follow(divided, projection=CONVERSATIONS)

    assert found(divided, account) == [leading]


def test_a_conversation_and_a_recipient_are_found_together_and_each_once(divided, writer):
    account = an_account()
    both = register(writer, account, b"registration-001", conversation_id="talk-1", recipient="+15550177")
    talk = register(writer, account, b"registration-002", conversation_id="talk-1")
    number = register(writer, account, b"registration-003", recipient="+15550177")
    follow(divided, projection=CONVERSATIONS)

    assert found(divided, account, recipient="+15550177") == [number, talk, both]
    assert found(divided, account, conversation=None, recipient="+15550177") == [number, both]
    assert found(divided, account, recipient="+15550177", limit=2) == [number, talk]


def test_other_accounts_have_other_conversations_of_the_same_id(divided, writer):
    ours, theirs = an_account(), an_account()
    mine = register(writer, ours, b"registration-001", conversation_id="talk-1")
    other = register(writer, theirs, b"registration-001", conversation_id="talk-1")
    follow(divided, projection=CONVERSATIONS)

    assert found(divided, ours) == [mine]
    assert found(divided, theirs) == [other]
    assert set(found(divided, ours, theirs)) == {mine, other}


def test_without_a_feed_recipients_are_found_and_conversations_are_not(ledger, pen):
    stream = register(pen, "account-1", b"registration-001", conversation_id="talk-1", recipient="+15550100")

    assert found(ledger, "account-1") == []
    assert found(ledger, "account-1", recipient="+15550100") == [stream]


def test_rebuilt_rows_equal_live_ones(ledger, pen):
    for number in range(7):
        register(pen, "account-1", b"registration-%03d" % number, conversation_id=f"talk-{number % 3}")
        follow(ledger, projection=CONVERSATIONS, page=2)

    assert len(rows(ledger, projection=CONVERSATIONS)["conversation_messages"]) == 7
    assert not difference(ledger, CONVERSATIONS).differs


def test_what_is_kept_tells_nothing_and_goes_when_the_message_is_erased(ledger, pen, tmp_path):
    stream = register(pen, "account-1", b"registration-001", conversation_id="talk-1", provider_message_id="provider-1")
    follow(ledger, projection=CONVERSATIONS)
    (row,) = rows(ledger, projection=CONVERSATIONS)["conversation_messages"]
    assert b"talk-1" not in b"".join(value for value in row if isinstance(value, bytes))

    eraser = an_eraser(ledger, tmp_path / "erasures.jsonl")
    eraser.erase(eraser.look([stream]), by="privacy-officer", why="asked")
    pen.do(Job((says(Status.DELIVERED, 1, reference="provider-1"),)))
    follow(ledger, projection=CONVERSATIONS)

    assert rows(ledger, projection=CONVERSATIONS)["conversation_messages"] == []
    assert not difference(ledger, CONVERSATIONS).differs

"""What the sending side says, as jobs, and as the messages that they lead to."""

import msgspec
import pytest

from ledger.domain.events import MessageRegistered, StatusObserved
from ledger.domain.message import AlreadyLinked, Link, Observe, Register
from ledger.domain.observation import Source
from ledger.domain.reading import Basis, failure, time_of
from ledger.domain.status import Channel, FailureKind, Outcome, Status
from ledger.ingest.register import Correction, LocalFailure, Registration, Sender
from ledger.ingest.writer import Job
from ledger.store.application import Ledger
from projections.current_status import CurrentStatus, Opened
from tests.builders import NAMES, NOON, at
from tests.plugins.ledger import Pen
from tests.projections import rebuilding
from tests.statements import ACCOUNT, a_registration, a_sender, registered, says, stream_of

KEY = b"registration-001"


def claims(job: Job) -> list[tuple[str, Status]]:
    """Return the provider's words and the claims of a job's observations."""
    commands = [statement.command for statement in job.statements]
    return [
        (command.observation.provider_status, command.observation.claim.status)
        for command in commands
        if isinstance(command, Observe)
    ]


def shown(messages: CurrentStatus, ledger: Ledger, registration: Registration, key: bytes = KEY) -> Opened:
    """Return the message that a registration is about, as a reader who asks for its id sees it."""
    opened = messages.of_stream(a_sender().stream_of(registration, key))
    assert opened is not None
    by_id = messages.get(opened.message_id)
    assert by_id is not None
    assert rebuilding.differences(ledger) == []
    return by_id


# Jobs -----------------------------------------------------------------------------------------------------------------


def test_a_registration_with_the_providers_id_goes_to_the_stream_that_callbacks_use() -> None:
    registration = a_registration(provider_message_id="provider-1")

    assert a_sender().stream_of(registration, KEY) == stream_of("provider-1")


def test_a_registration_without_it_has_a_stream_of_its_own() -> None:
    sender, registration = a_sender(), a_registration()

    streams = {sender.stream_of(registration, bytes([n]) * 16) for n in range(3)}

    assert len(streams) == 3
    assert sender.stream_of(registration, KEY) == sender.stream_of(registration, KEY)
    assert stream_of(KEY.hex()) not in streams


@pytest.mark.parametrize(
    ("registration", "expected"),
    [
        (a_registration(), []),
        (a_registration(queued_at=NOON), []),
        (a_registration(sent_at=NOON), [("sent", Status.SENT)]),
        (a_registration(provider_message_id="p"), [("queued", Status.QUEUED)]),
        (a_registration(provider_message_id="p", sent_at=NOON), [("sent", Status.SENT)]),
        (a_registration(provider_message_id="p", accepted_as="sent"), [("sent", Status.SENT)]),
        (a_registration(provider_message_id="p", accepted_as="queued", sent_at=NOON), [("queued", Status.QUEUED)]),
        (a_registration(Channel.WHATSAPP, provider_message_id="p"), [("sent", Status.SENT)]),
        (a_registration(Channel.VIBER, provider_message_id="p"), [("sent", Status.SENT)]),
        (a_registration(Channel.VIBER, provider_message_id="p", accepted_as="queued"), [("queued", Status.QUEUED)]),
        (a_registration(failure=LocalFailure("no route")), [("failed", Status.FAILED)]),
        (a_registration(provider_message_id="p", failure=LocalFailure("rejected")), [("failed", Status.FAILED)]),
    ],
)
def test_a_registration_claims_what_the_sender_knows(
    registration: Registration, expected: list[tuple[str, Status]]
) -> None:
    """An acknowledged hand-off is SENT; for SMS only queued, unless a time or the provider's answer says more."""
    job, _ = registered(KEY, registration)

    assert claims(job) == expected


def test_a_hand_off_speaks_to_both_streams() -> None:
    told = a_registration(provider_message_id="provider-1")
    own = a_sender().stream_of(a_registration(), KEY)

    job, leading = a_sender().hand_off(own, 4711, told, at(1))

    links = [(statement.stream_id, statement.command) for statement in job.statements]
    to_leading, to_own = links[0][1], links[1][1]
    assert leading == stream_of("provider-1")
    assert isinstance(to_leading, Link)
    assert isinstance(to_own, Link)
    assert [stream_id for stream_id, _ in links] == [leading, own, leading]
    assert (to_leading.other, to_leading.leads, to_leading.other_message_id) == (own, True, 4711)
    assert (to_own.other, to_own.leads, to_own.other_message_id) == (leading, False, None)


def by_id_and_recipient(channel: Channel, provider_message_id: str, recipient: str | None) -> str:
    return f"{channel}: {provider_message_id} to {recipient}"


def test_a_registration_goes_to_the_stream_that_reports_name_by_more_than_an_id() -> None:
    sender = Sender(ACCOUNT, "provider-1", NAMES, by_id_and_recipient)

    stream_id = sender.stream_of(a_registration(provider_message_id="provider-1", recipient="+15550100"), KEY)

    assert stream_id == stream_of("sms: provider-1 to +15550100")


def test_a_hand_off_goes_to_the_stream_that_reports_name_by_more_than_an_id() -> None:
    sender = Sender(ACCOUNT, "provider-1", NAMES, by_id_and_recipient)
    own, told = sender.stream_of(a_registration(), KEY), a_registration(provider_message_id="provider-1")

    _, leading = sender.hand_off(own, 4711, told, at(1), "+15550100")

    assert leading == stream_of("sms: provider-1 to +15550100")


def test_the_senders_statements_carry_its_source_and_clock() -> None:
    job, _ = registered(KEY, a_registration(provider_message_id="provider-1", failure=LocalFailure("no", "21211")))

    receipts = [statement.command.receipt for statement in job.statements]
    assert {(receipt.source, receipt.received_at, receipt.account) for receipt in receipts} == {
        (Source.SENDER, at(0), "account-1")
    }
    registration = job.statements[0].command
    assert isinstance(registration, Register)
    assert registration.registration == KEY


# Messages -------------------------------------------------------------------------------------------------------------


def test_a_registered_message_awaits_hand_off(pen: Pen, messages: CurrentStatus, ledger: Ledger) -> None:
    registration = a_registration(queued_at=at(-1), conversation_id="c", metadata={"a": "b"})

    pen.do(registered(KEY, registration)[0])

    message = shown(messages, ledger, registration).message
    assert (message.status, message.registered_at, message.queued_at) == (Status.UNKNOWN, at(0), at(-1))
    assert (message.person.recipient, message.person.client_reference) == ("+15550100", "order-1")
    assert (message.person.conversation_id, message.person.metadata) == ("c", {"a": "b"})


def test_the_same_registration_again_changes_nothing(pen: Pen, ledger: Ledger) -> None:
    pen.do(registered(KEY)[0])

    done = pen.do(registered(KEY)[0])

    assert done.events == ()
    assert len(ledger.history(done.streams[0])) == 1


def test_a_late_registration_finds_the_message_that_callbacks_opened(
    pen: Pen, messages: CurrentStatus, ledger: Ledger
) -> None:
    pen.write(says(Status.DELIVERED, 1, reference="provider-1"))
    registration = a_registration(provider_message_id="provider-1", sent_at=at(0), conversation_id="c")

    pen.do(registered(KEY, registration)[0])

    message = shown(messages, ledger, registration).message
    assert message.status is Status.DELIVERED
    assert message.person.conversation_id == "c"
    sent = time_of(message, Status.SENT)
    assert sent is not None
    assert (sent.at, sent.basis) == (at(0), Basis.PROVIDER)


def test_a_local_failure_is_final_and_explained(pen: Pen, messages: CurrentStatus, ledger: Ledger) -> None:
    registration = a_registration()
    job, own = registered(KEY, registration)
    pen.do(job)

    pen.do(a_sender().fail(own, Channel.SMS, LocalFailure("Invalid phone number", "21211"), at(1)))

    message = shown(messages, ledger, registration).message
    failed = failure(message)
    assert failed is not None
    assert (message.status, message.kind) == (Status.FAILED, FailureKind.FAILED)
    assert (failed.code, failed.text) == ("21211", "Invalid phone number")


def test_two_different_local_failures_are_two_observations(pen: Pen, ledger: Ledger) -> None:
    """Without a code or a time, only their texts tell them apart."""
    _, own = registered(KEY)
    for text in ("no route", "no credit", "no route"):
        pen.do(a_sender().fail(own, Channel.SMS, LocalFailure(text), at(1)))

    texts = [event.personal.error_text for event in observations(ledger, own)]
    assert texts == ["no route", "no credit"]


def observations(ledger: Ledger, stream_id: object) -> list[StatusObserved]:
    events = [recorded.event for recorded in ledger.history(stream_id)]  # type: ignore[arg-type]
    return [event for event in events if isinstance(event, StatusObserved)]


def test_after_a_hand_off_the_registrations_id_shows_the_providers_news(
    pen: Pen, messages: CurrentStatus, ledger: Ledger
) -> None:
    registration = a_registration()
    job, own = registered(KEY, registration)
    pen.do(job)
    before = shown(messages, ledger, registration)
    handed_off, leading = a_sender().hand_off(
        own, before.message_id, a_registration(provider_message_id="provider-1"), at(1)
    )

    pen.do(handed_off)
    pen.write(says(Status.DELIVERED, 2, reference="provider-1"))

    after = messages.get(before.message_id)
    assert after is not None
    assert (after.stream_id, after.shown_id) == (leading, before.message_id)
    assert after.message.status is Status.DELIVERED
    assert (after.message.person.client_reference, after.message.registered_at) == ("order-1", at(0))
    assert rebuilding.differences(ledger) == []


def test_what_the_sender_says_after_a_hand_off_goes_to_the_message(
    pen: Pen, messages: CurrentStatus, ledger: Ledger
) -> None:
    job, own = registered(KEY)
    pen.do(job)
    handed_off, leading = a_sender().hand_off(own, 1, a_registration(provider_message_id="provider-1"), at(1))
    pen.do(handed_off)

    done = pen.do(a_sender().fail(own, Channel.SMS, LocalFailure("taken back"), at(2)))

    assert done.streams == (leading,)
    opened = messages.of_stream(leading)
    assert opened is not None
    assert opened.message.status is Status.FAILED
    assert rebuilding.differences(ledger) == []


def test_a_second_hand_off_to_the_same_id_changes_nothing(pen: Pen, ledger: Ledger) -> None:
    job, own = registered(KEY)
    pen.do(job)
    handed_off, _ = a_sender().hand_off(own, 1, a_registration(provider_message_id="provider-1"), at(1))
    pen.do(handed_off)

    done = pen.do(Job(handed_off.statements))

    assert (done.events, done.redelivered) == ((), 3)
    assert rebuilding.differences(ledger) == []


def test_a_hand_off_to_another_id_is_refused_and_leaves_nothing(pen: Pen, ledger: Ledger) -> None:
    job, own = registered(KEY)
    pen.do(job)
    pen.do(a_sender().hand_off(own, 1, a_registration(provider_message_id="provider-1"), at(1))[0])

    with pytest.raises(AlreadyLinked):
        pen.do(a_sender().hand_off(own, 1, a_registration(provider_message_id="provider-2"), at(2))[0])

    assert ledger.history(stream_of("provider-2")) == []
    assert rebuilding.differences(ledger) == []


def test_an_acknowledgement_of_a_known_message_says_that_it_was_sent(pen: Pen, ledger: Ledger) -> None:
    registration = a_registration(provider_message_id="provider-1", sent_at=at(1))
    job, stream_id = registered(KEY, msgspec.structs.replace(registration, sent_at=None))
    pen.do(job)

    pen.do(a_sender().acknowledge(stream_id, registration, at(2)))

    assert [event.claim for event in observations(ledger, stream_id)] == [Status.QUEUED, Status.SENT]
    assert isinstance(ledger.history(stream_id)[0].event, MessageRegistered)


def test_a_correction_carries_who_decided_and_why(pen: Pen, messages: CurrentStatus, ledger: Ledger) -> None:
    pen.write(says(Status.FAILED, 1, reference="provider-1"), says(Status.DELIVERED, 2, reference="provider-1"))
    correction = Correction(to=Outcome.DELIVERED, by="operator-1", why="answered", relied_on=(1, 2))

    (event,) = pen.do(a_sender().correct(stream_of("provider-1"), Channel.SMS, correction, at(3))).events

    assert (event.to, event.by, event.why, event.relied_on) == (Outcome.DELIVERED, "operator-1", "answered", (1, 2))  # type: ignore[union-attr]
    opened = messages.of_stream(stream_of("provider-1"))
    assert opened is not None
    assert opened.message.status is Status.DELIVERED

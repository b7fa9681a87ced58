"""The Python client against a running server: what it tells, what it reads, what it follows, what it is refused."""

import threading
from datetime import UTC, datetime

import msgspec
import pytest

import ledger_client
from ledger.http import changes, shapes
from ledger_client import Client, Conversation, FailureTold, NotFound, Refused, Stopped, Unreachable
from ledger_client import shapes as ours
from ledger_client.transport import Transport
from tests.http.callbacks import meta, meta_failure, meta_status, new_phone, new_sid, new_wamid, send, twilio
from tests.http.test_api import shown
from tests.plugins.service import Service

PAIRS = [
    (ours.Registration, shapes.RegisterRequest),
    (ours.Handoff, shapes.HandoffRequest),
    (ours.Correction, shapes.CorrectionRequest),
    (ours.FailureTold, shapes.FailureTold),
    (ours.Registered, shapes.Registered),
    (ours.Retry, shapes.RetryShape),
    (ours.Failure, shapes.FailureShape),
    (ours.Claim, shapes.ClaimShape),
    (ours.Conversation, shapes.ConversationShape),
    (ours.Message, shapes.MessageShape),
    (ours.HistoryItem, shapes.HistoryItem),
    (ours.Change, changes.ChangeShape),
    (ours.Step, changes.StepShape),
    (ours.Update, changes.StreamedMessage),
]


@pytest.mark.parametrize(("client_shape", "service_shape"), PAIRS, ids=lambda shape: shape.__name__)
def test_the_clients_shapes_are_those_of_the_service(client_shape, service_shape):
    assert client_shape.__struct_encode_fields__ == service_shape.__struct_encode_fields__


def test_every_shape_of_the_client_is_compared():
    own = {name for name, value in vars(ours).items() if isinstance(value, type) and issubclass(value, msgspec.Struct)}

    assert own - {"Page", "HistoryPage"} == {client_shape.__name__ for client_shape, _ in PAIRS}


@pytest.fixture
def key(service: Service) -> str:
    return service.new_key("meta-main", "whatsapp")[1]


@pytest.fixture
def client(service, key):
    with Client(service.url, key) as client:
        yield client


def as_told(message: ledger_client.Message) -> object:
    return msgspec.json.decode(msgspec.json.encode(message))


def test_a_message_is_registered_handed_off_and_read(service, client, key):
    wamid, phone = new_wamid(), new_phone()

    registered = client.register(
        "whatsapp",
        recipient=f"+{phone}",
        client_reference="order-1",
        queued_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
        conversation=Conversation(conversation_id="c-1", part_id="p-1"),
        metadata={"campaign": "autumn"},
    )
    handed = client.hand_off(registered.message_id, wamid)
    send(service, meta(meta_status(wamid, "delivered", recipient_id=phone)))
    message = client.get(registered.message_id)

    assert registered.status == "UNKNOWN"
    assert handed.status == "SENT"
    assert message.status == "DELIVERED"
    assert message.conversation == Conversation(conversation_id="c-1", part_id="p-1")
    assert message.metadata == {"campaign": "autumn"}
    assert isinstance(message.delivered_at, datetime)
    assert as_told(message) == shown(service.client(key), registered.message_id)
    assert [item.kind for item in client.history(registered.message_id)] == [
        "registration", "link", "observation", "observation",
    ]  # fmt: skip


def test_a_failure_before_hand_off_is_told_and_explained(client):
    message_id = client.register("whatsapp").message_id

    message = client.fail(message_id, "Phone number is missing.", code="1")

    assert (message.status, message.status_detail) == ("FAILED", "failed")
    assert message.failure is not None
    assert message.failure.retry.class_ == "fix_input"
    assert client.register("whatsapp", failure=FailureTold(text="x")).status == "FAILED"


def test_a_conflict_is_decided(service, client):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "delivered"), meta_failure(wamid)))
    (message,) = client.messages(provider_message_id=wamid)

    corrected = client.correct(message.message_id, "failed", by="ops", why="The recipient says so.")

    assert message.conflict == "open"
    assert {claim.outcome for claim in message.conflict_claims} == {"delivered", "failed"}
    assert (corrected.status, corrected.conflict) == ("FAILED", "settled")


def test_registering_again_under_a_key_finds_the_first_one(client):
    first = client.register("whatsapp", client_reference="a", idempotency_key="order-77-" + new_sid())
    key = "order-78-" + new_sid()

    assert client.register("whatsapp", client_reference="b", idempotency_key=key) == client.register(
        "whatsapp", client_reference="b", idempotency_key=key
    )
    assert client.register("whatsapp", client_reference="a").message_id != first.message_id


def test_all_pages_of_a_listing_are_read(client):
    reference = new_sid()
    ids = [client.register("whatsapp", client_reference=reference).message_id for _ in range(3)]

    found = [message.message_id for message in client.messages(client_reference=reference)]

    assert found == ids[::-1]


def test_waiting_returns_when_the_outcome_is_decided(service, client):
    wamid = new_wamid()
    message_id = client.register("whatsapp", provider_message_id=wamid).message_id
    threading.Timer(0.2, send, (service, meta(meta_status(wamid, "delivered")))).start()

    assert client.wait(message_id, 20).status == "DELIVERED"
    assert client.wait(client.register("whatsapp").message_id, 1).status == "UNKNOWN"


def test_a_refusal_says_what_was_wrong_and_not_what_was_sent(service, client):
    with pytest.raises(NotFound) as absent:
        client.get(1)
    with pytest.raises(Refused) as invalid:
        client.register("sms")
    with Client(service.url, "slk_wrong") as stranger, pytest.raises(Refused) as unknown:
        stranger.get(1)

    assert (absent.value.status, absent.value.code) == (404, "not_found")
    assert (invalid.value.status, invalid.value.errors[0].field) == (422, "channel")
    assert (unknown.value.status, unknown.value.code) == (401, "key_unknown")
    assert invalid.value.request_id
    assert "slk_wrong" not in str(unknown.value)


def test_nobody_there_is_told_as_such():
    with Client("http://127.0.0.1:1", "slk_x", patience_seconds=0.2) as client, pytest.raises(Unreachable):
        client.get(1)


def test_a_message_is_followed_to_its_end(service):
    key, sid = service.new_key("twilio-main", "sms")[1], new_sid()
    with Client(service.url, key) as client:
        message_id = client.register("sms").message_id
        with client.follow(message_id) as stream:
            updates = iter(stream)
            seen = [next(updates)]
            client.hand_off(message_id, sid)
            send(service, twilio(sid, "sent"))
            send(service, twilio(sid, "delivered"))
            while not seen[-1].message.is_final:
                seen.append(next(updates))
            last_id = stream.last_id
        send(service, twilio(sid, "read"))
        with client.follow(message_id, last_id=last_id) as stream:
            after = next(iter(stream))

    assert seen[0].message.status == "UNKNOWN"
    assert seen[-1].message.status == "DELIVERED"
    assert [step.label for step in seen[-1].timeline] == ["Queued", "Sent", "Delivered"]
    assert after.change.provider_status == "read"


def test_the_tail_is_filtered_and_goes_on_after_an_id(service, client):
    wamids = [new_wamid() for _ in range(3)]
    with client.tail(changes="status") as stream:
        send(service, meta(*(meta_status(wamid, "delivered") for wamid in wamids)))
        first = next(iter(stream))
        last_id = stream.last_id
    with client.tail(last_id=last_id) as stream:
        rest = [change for _, change in zip(range(2), stream, strict=False)]

    assert [change.provider_message_id for change in (first, *rest)] == wamids


def test_a_stream_that_was_closed_in_another_thread_ends(client):
    with client.tail() as stream:
        threading.Timer(0.3, stream.close).start()

        assert list(stream) == []


def test_a_stopped_transport_ends_its_streams(service, key):
    with Transport(service.url) as transport, Client(service.url, key, transport=transport).tail() as stream:
        transport.stop()
        threading.Timer(0.2, stream._drop).start()  # as when the connection is lost

        with pytest.raises(Stopped):
            list(stream)


def test_an_id_that_was_never_one_is_refused(client):
    with pytest.raises(Refused) as refused, client.tail(last_id="none"):
        pass

    assert refused.value.code == "invalid_parameter"


def test_what_is_exported_is_what_is_documented():
    assert all(hasattr(ledger_client, name) for name in ledger_client.__all__)
    assert sorted(ledger_client.__all__) == ledger_client.__all__

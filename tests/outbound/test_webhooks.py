"""Status changes at a customer's endpoint: what arrives, in which order, and what happens when it does not."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from ledger.domain.observation import Source
from ledger.domain.status import Status
from ledger.outbound import deliveries, schedule
from ledger.outbound.deliveries import PROBED_AFTER, State, forget
from ledger.outbound.signing import new_secret
from ledger.store.destinations import Reason, Signer
from projections import rebuild
from projections.status_changes import STATUS_CHANGES
from tests.builders import a_receipt, register_command
from tests.outbound.conftest import Rig
from tests.outbound.receiver import Act, answers, drips, floods, hangs, hangs_up
from tests.projections.following import build_all

CLOUD_EVENTS = Path(__file__).with_name("cloudevents.json")


def test_every_status_change_arrives_once_in_order_with_its_version(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.report(Status.SENT, Status.DELIVERED, Status.READ)

    rig.send()

    received = rig.receiver.received
    assert rig.receiver.statuses == ["SENT", "DELIVERED", "READ"]
    assert [each.data["previous_status"] for each in received] == ["UNKNOWN", "SENT", "DELIVERED"]
    assert [each.data["version"] for each in received] == [1, 2, 3]
    assert len({each.data["message_id"] for each in received}) == 1
    assert rig.receiver.ids == [f"evt_{received[0].data['message_id']}_{version}" for version in (1, 2, 3)]
    assert rig.states(endpoint) == [State.DELIVERED] * 3


def test_what_changes_no_status_is_not_told(rig: Rig) -> None:
    rig.endpoint()
    rig.report(Status.DELIVERED, Status.SENT)  # the second one is late
    rig.write(rig.stream("other"), register_command(receipt=a_receipt(account=rig.account)))

    rig.send()

    assert rig.receiver.statuses == ["DELIVERED"]


def test_the_body_is_an_event_of_standard_webhooks_and_of_cloud_events(rig: Rig) -> None:
    rig.endpoint()
    at = datetime(2025, 3, 1, 11, 59, tzinfo=UTC)
    rig.report(Status.FAILED, error_code="30003", error_text="Unreachable", occurred_at=at, client_reference="order-7")

    rig.send()

    (received,) = rig.receiver.received
    told = received.told
    jsonschema.validate(told, json.loads(CLOUD_EVENTS.read_text("utf-8")))
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in told), "as attributes are named"
    assert received.headers["content-type"] == "application/json"
    assert set(told) == {
        "specversion", "id", "source", "type", "subject", "time", "timestamp", "datacontenttype", "data",
    }  # fmt: skip
    assert told["specversion"] == "1.0"
    assert told["type"] == "message.status.changed"
    assert told["id"] == received.id
    assert told["source"] == f"/accounts/{rig.account}/sms"
    assert told["subject"] == str(told["data"]["message_id"])
    assert told["timestamp"] == told["time"] == "2025-03-01T11:59:00Z"
    assert told["data"]["recipient"] == "+15550100"
    assert told["data"]["client_reference"] == "order-7"
    assert told["data"]["is_final"] is True
    assert told["data"]["failure"]["code"] == "30003"
    assert len(received.body) < 20_000


def test_signatures_are_those_that_the_standard_library_verifies(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.report(Status.SENT)

    rig.send()

    (received,) = rig.receiver.received
    assert Webhook(endpoint.details.signers[0].secret).verify(received.body, received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(received.body, received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint.details.signers[0].secret).verify(received.body + b" ", received.headers)


def test_during_rotation_both_secrets_sign_and_afterwards_only_the_new_one(rig: Rig) -> None:
    now = datetime.now(UTC)
    new, old, ended = (Signer(new_secret(), now, until) for until in (None, now + timedelta(hours=1), now))
    rig.endpoint(signers=(new, old, ended))
    rig.report(Status.SENT)

    rig.send()

    (received,) = rig.receiver.received
    assert Webhook(new.secret).verify(received.body, received.headers)
    assert Webhook(old.secret).verify(received.body, received.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(ended.secret).verify(received.body, received.headers)


@pytest.mark.parametrize(
    ("act", "outcome"),
    [
        (answers(500), "refused"),
        (answers(404), "refused"),
        (answers(301, location="http://127.0.0.1:1/"), "redirected"),
        (answers(429), "refused"),
        (floods, "refused"),
        (hangs, "timed_out"),
        (drips, "timed_out"),
        (hangs_up, "broken_off"),
    ],
    ids=["500", "404", "301", "429", "flood", "hang", "drip", "hang up"],
)
def test_a_failed_attempt_is_repeated_with_the_same_id_and_body_and_a_new_signature(
    rig: Rig, act: Act, outcome: str
) -> None:
    endpoint = rig.endpoint()
    rig.receiver.script = [act]
    rig.report(Status.SENT)

    now = datetime.now(UTC)
    rig.send(seconds_max=0.5, now=lambda: now)
    assert len(rig.receiver.received) == 1
    rig.pass_time(10)
    rig.send(now=lambda: now + timedelta(seconds=10))

    first, second = rig.receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
    assert Webhook(endpoint.details.signers[0].secret).verify(second.body, second.headers)
    assert rig.outcomes(endpoint) == [outcome, "delivered"]


def test_a_redirect_is_not_followed(rig: Rig) -> None:
    rig.endpoint()
    rig.receiver.script = [answers(307, location=f"{rig.receiver.url}/elsewhere")]
    rig.report(Status.SENT)

    rig.send()

    assert [each.path for each in rig.receiver.received] == ["/hooks"]


def test_a_message_is_told_in_order_and_waits_for_what_failed_while_others_go_on(rig: Rig) -> None:
    rig.endpoint()
    rig.receiver.script = [answers(500)]
    rig.report(Status.SENT)
    rig.send()
    rig.report(Status.DELIVERED, Status.READ)
    rig.report(Status.SENT, reference="another")

    rig.send()
    assert rig.receiver.statuses == ["SENT", "SENT"]
    rig.pass_time(10)
    rig.send()

    first = rig.receiver.received[0].data["message_id"]
    told = [each.data["status"] for each in rig.receiver.received if each.data["message_id"] == first]
    assert told == ["SENT", "SENT", "DELIVERED", "READ"]


def test_what_fails_for_days_is_parked_and_lets_the_next_one_pass(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.receiver.otherwise = answers(500, b"no")
    rig.report(Status.SENT, Status.DELIVERED)

    for _ in range(schedule.ATTEMPTS_MAX):
        rig.send()
        rig.pass_time()
        rig.execute("UPDATE destinations SET failing_since = NULL")  # others got through
    rig.receiver.otherwise = answers(200)
    rig.send()

    assert rig.states(endpoint) == [State.PARKED, State.DELIVERED]
    assert rig.receiver.statuses == ["SENT"] * schedule.ATTEMPTS_MAX + ["DELIVERED"]
    assert rig.deliveries.newest(endpoint.id, ["parked"], before=None, limit=2)[0].why == "refused"


def test_retry_after_is_honoured_and_rests_the_whole_endpoint(rig: Rig) -> None:
    rig.endpoint()
    rig.receiver.script = [answers(429, retry_after="120")]
    rig.report(Status.SENT)
    rig.send()
    rig.report(Status.SENT, reference="another")

    rig.send()
    rig.pass_time(100)
    rig.send()
    assert len(rig.receiver.received) == 1
    rig.pass_time(25)
    rig.send()

    assert len(rig.receiver.received) == 3


def test_410_disables_the_endpoint_and_says_so(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.receiver.otherwise = answers(410)
    rig.report(Status.SENT, Status.DELIVERED)

    rig.send()
    rig.pass_time()
    rig.send()

    assert len(rig.receiver.received) == 1
    found = rig.destinations.get(endpoint.id)
    assert found is not None
    assert found.disabled_reason is Reason.GONE
    assert [(each.what, each.why) for each in rig.destinations.notices(endpoint.id, 10)] == [("disabled", "gone")]
    assert rig.states(endpoint) == [State.HELD, State.HELD]


def test_an_endpoint_that_only_fails_for_five_days_is_disabled_with_notice(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.receiver.otherwise = answers(500)
    rig.report(Status.SENT)
    for number in range(4):
        rig.report(Status.SENT, reference=f"other-{number}")

    rig.send()
    rig.pass_time(86_400)
    rig.send()
    assert not rig.execute("SELECT 1 FROM destinations WHERE disabled_at IS NOT NULL")
    rig.pass_time(4.1 * 86_400)
    rig.send()

    found = rig.destinations.get(endpoint.id)
    assert found is not None
    assert found.disabled_reason is Reason.FAILING
    notices = [each.what for each in rig.destinations.notices(endpoint.id, 10)]
    assert notices == ["disabled", "failing"]


def test_an_endpoint_that_failed_long_ago_and_once_now_is_not_disabled(rig: Rig) -> None:
    """Silence between is no evidence: it must have failed early and late in the time."""
    rig.endpoint()
    rig.receiver.otherwise = answers(500)
    rig.report(Status.SENT)

    rig.send()
    rig.pass_time(6 * 86_400)
    rig.send()

    assert not rig.execute("SELECT 1 FROM destinations WHERE disabled_at IS NOT NULL")


def test_recovery_is_noticed_once(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.receiver.otherwise = answers(500)
    for number in range(PROBED_AFTER):
        rig.report(Status.SENT, reference=f"other-{number}")
    rig.send()
    rig.receiver.otherwise = answers(200)
    rig.pass_time(3_600)

    rig.send()

    assert [each.what for each in rig.destinations.notices(endpoint.id, 10)] == ["recovered", "failing"]
    found = rig.destinations.get(endpoint.id)
    assert found is not None
    assert (found.failures, found.failing_since) == (0, None)


def test_a_failing_endpoint_is_probed_with_one_delivery_at_a_time(rig: Rig) -> None:
    rig.endpoint()
    rig.receiver.otherwise = answers(500)
    for number in range(12):
        rig.report(Status.SENT, reference=f"other-{number}")
    rig.send()
    before = len(rig.receiver.received)

    rig.pass_time(60)
    rig.send()

    assert len(rig.receiver.received) - before == 1


def test_changes_are_recorded_while_disabled_and_sent_when_they_are_recovered(rig: Rig) -> None:
    endpoint = rig.endpoint()
    since = datetime.now(UTC) - timedelta(minutes=1)
    rig.destinations.disable(endpoint.id, Reason.REQUESTED)
    rig.report(Status.SENT, Status.DELIVERED)
    rig.send()
    assert rig.states(endpoint) == [State.HELD, State.HELD]

    rig.destinations.enable(endpoint.id)
    rig.send()
    assert rig.receiver.received == []
    assert rig.deliveries.recover(endpoint.id, since, None, all_states=False) == (2, True)
    rig.send()

    assert rig.receiver.statuses == ["SENT", "DELIVERED"]


def test_recovery_also_sends_what_was_never_sent_because_there_was_no_endpoint(rig: Rig) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    rig.endpoint(url=f"{rig.receiver.url}/first")
    rig.report(Status.SENT, Status.DELIVERED)
    rig.send()
    late = rig.endpoint(url=f"{rig.receiver.url}/late")

    assert rig.deliveries.recover(late.id, since, None, all_states=False) == (2, True)
    assert rig.deliveries.recover(late.id, since, None, all_states=False) == (0, True)
    rig.send()

    assert [each.path for each in rig.receiver.received] == ["/hooks/first"] * 2 + ["/hooks/late"] * 2


def test_a_delivered_change_can_be_sent_again_under_its_id_or_under_a_new_one(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.report(Status.SENT)
    rig.send()
    (delivery,) = rig.deliveries.newest(endpoint.id, [], before=None, limit=2)

    assert rig.deliveries.resend(endpoint.id, delivery.partition, delivery.position, as_new=False)
    rig.send()
    assert rig.deliveries.resend(endpoint.id, delivery.partition, delivery.position, as_new=True)
    rig.send()

    first, same, new = rig.receiver.received
    assert first.id == same.id
    assert new.id == f"{first.id}_r1"
    assert new.data == first.data
    assert rig.outcomes(endpoint) == ["delivered"] * 3


def test_deriving_status_changes_again_sends_nothing_twice(rig: Rig) -> None:
    rig.endpoint()
    rig.report(Status.SENT, Status.DELIVERED)
    rig.send()
    rig.execute("DELETE FROM deliveries")  # as upkeep does after 30 days

    with rebuild.connect(rig.ledger) as connection:
        generation = build_all(rig.ledger, STATUS_CHANGES)
        rebuild.exchange(rig.ledger, connection, STATUS_CHANGES, generation)
    rig.report(Status.READ)
    rig.send()

    assert rig.receiver.statuses == ["SENT", "DELIVERED", "READ"]


def test_nothing_is_sent_of_a_message_that_has_been_erased(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.receiver.script = [answers(500)]
    stream_id = rig.report(Status.SENT)
    rig.send()

    rig.execute("DELETE FROM message_keys WHERE stream_id = %s", stream_id)
    rig.report(Status.DELIVERED)
    rig.pass_time()
    rig.send()

    assert len(rig.receiver.received) == 1
    assert rig.states(endpoint) == []


def test_forgetting_a_message_drops_deliveries_attempts_and_answers(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.receiver.otherwise = answers(500, b"no such customer: +15550100")
    stream_id = rig.report(Status.SENT)
    rig.report(Status.SENT, reference="another")
    rig.send()

    with rig.ledger.reading() as cursor:
        assert forget(cursor, [stream_id]) == 1

    assert rig.states(endpoint) == [State.PENDING]
    assert rig.execute("SELECT count(*) FROM delivery_attempts") == [(1,)]


def test_what_was_answered_is_kept_sealed_and_can_be_read_by_the_owner(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.receiver.script = [answers(400, b"field `status` is unknown " + b"z" * 5_000)]
    rig.report(Status.SENT)

    rig.send()

    (delivery,) = rig.deliveries.newest(endpoint.id, [], before=None, limit=2)
    (attempt,) = rig.deliveries.attempts(endpoint, delivery.partition, delivery.position)
    assert attempt.answer == 400
    assert attempt.excerpt.startswith(b"field `status` is unknown zzz")
    assert len(attempt.excerpt) == 1_024
    assert not rig.execute("SELECT 1 FROM delivery_attempts WHERE position('field'::bytea IN sealed) > 0")


def test_an_endpoint_gets_the_statuses_it_wants_of_its_own_account_and_channel(rig: Rig) -> None:
    rig.endpoint(url=f"{rig.receiver.url}/some", statuses=["DELIVERED", "FAILED"])
    rig.endpoint(url=f"{rig.receiver.url}/foreign", account="account-2")
    rig.endpoint(url=f"{rig.receiver.url}/channel", channel="whatsapp")
    rig.report(Status.SENT, Status.DELIVERED)

    rig.send()

    assert [(each.path, each.data["status"]) for each in rig.receiver.received] == [("/hooks/some", "DELIVERED")]


def test_after_hand_off_a_message_keeps_its_id_and_its_versions_rise(rig: Rig) -> None:
    rig.endpoint()
    own, theirs = rig.stream("own"), rig.stream("provider-1")
    rig.write(own, register_command(receipt=a_receipt(account=rig.account, source=Source.SENDER)))
    rig.write(own, rig.observe(Status.QUEUED, reference="own"))
    message_id = rig.execute("SELECT message_id FROM current_status WHERE stream_id = %s", own)[0][0]
    rig.report(Status.DELIVERED, reference="provider-1")  # overtakes the hand-off
    rig.send()

    rig.hand_off(own, theirs, message_id)
    rig.report(Status.READ, reference="provider-1")
    rig.send()

    told = [(each.data["status"], each.data["version"]) for each in rig.receiver.received if
            each.data["message_id"] == message_id]  # fmt: skip
    assert told == [("QUEUED", 1), ("DELIVERED", 2), ("READ", 3)]
    assert len(rig.receiver.received) == 4  # delivered was told under the provider's own id too


def test_what_the_senders_stream_has_left_to_tell_goes_first_after_hand_off(rig: Rig) -> None:
    rig.endpoint()
    own, theirs = rig.stream("own"), rig.stream("provider-1")
    rig.receiver.script = [answers(500)]
    rig.write(own, rig.observe(Status.QUEUED, reference="own"))
    message_id = rig.execute("SELECT message_id FROM current_status WHERE stream_id = %s", own)[0][0]
    rig.send()

    rig.hand_off(own, theirs, message_id)
    rig.report(Status.SENT, Status.DELIVERED, reference="provider-1")
    rig.send()
    assert rig.receiver.statuses == ["QUEUED"]
    rig.pass_time(10)
    rig.send()

    assert rig.receiver.statuses == ["QUEUED", "QUEUED", "SENT", "DELIVERED"]
    assert {each.data["message_id"] for each in rig.receiver.received} == {message_id}


def test_what_was_sent_to_a_deleted_endpoint_is_cleared_away_and_nothing_more_is_sent(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.report(Status.SENT, Status.DELIVERED)
    rig.send()
    rig.report(Status.READ)
    rig.destinations.delete(endpoint.id)
    ((secrets,),) = rig.execute("SELECT length(sealed) + length(wrapped) FROM destinations")

    rig.send()

    assert secrets == 0
    assert rig.receiver.statuses == ["SENT", "DELIVERED"]
    for table in ("destinations", "deliveries", "delivery_attempts"):
        assert rig.execute(f"SELECT count(*) FROM {table}") == [(0,)]  # noqa: S608  # names of our own


def test_old_deliveries_are_purged_and_what_waits_is_kept(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.report(Status.SENT)
    rig.send()
    rig.receiver.otherwise = answers(500)
    rig.report(Status.SENT, reference="another")
    rig.send()
    old = "recorded_at = recorded_at - interval '31 days', settled_at = settled_at - interval '31 days'"
    rig.execute(f"UPDATE deliveries SET {old}")  # noqa: S608  # a text of our own

    assert rig.deliveries.purge() == 1
    assert rig.deliveries.purge() == 0

    assert rig.states(endpoint) == [State.PENDING]


def test_a_great_deal_is_recovered_page_by_page(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "ROWS", 3)
    endpoint = rig.endpoint()
    since = datetime.now(UTC) - timedelta(minutes=1)
    for number in range(8):
        rig.report(Status.SENT, reference=f"other-{number}")
    rig.send()

    assert rig.deliveries.recover(endpoint.id, since, None, all_states=False) == (0, True)
    assert rig.deliveries.recover(endpoint.id, since, None, all_states=True, seconds_max=0) == (3, False)
    assert rig.deliveries.recover(endpoint.id, since, None, all_states=True) == (5, True)
    rig.send()

    assert len(rig.receiver.received) == 16

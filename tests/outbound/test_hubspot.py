"""Status changes on the timelines of HubSpot contacts: what arrives there, and what happens when it does not."""

import asyncio
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from ledger.domain.status import Status
from ledger.outbound import erasing
from ledger.outbound.deliveries import State
from ledger.outbound.guard import Guard
from ledger.outbound.hubspot import settings
from ledger.outbound.hubspot.api import Budget
from ledger.outbound.hubspot.bodies import PROPERTIES
from ledger.outbound.hubspot.pusher import destination_id, pushers
from ledger.outbound.webhooks import Client
from ledger.store.destinations import Destination, Kind, Reason
from ledger.wire.contract import Secret
from tests.outbound import hubspot_schemas
from tests.outbound.conftest import LOOPBACK, Rig
from tests.outbound.hubspot_server import CORRELATION_ID, HubSpot, a_hubspot, fails, throttles
from tests.outbound.receiver import answers, hangs

PHONE, CONTACT = "+15550100", "28001"
APIS = pytest.mark.parametrize("api", ["app-events", "legacy-v3"])


def a_table(hubspot: HubSpot, **told: Any) -> dict[str, Any]:
    return {
        "client_id": "client-1",
        "client_secret": "secret-1",
        "refresh_token": hubspot.refresh_token,
        "event_type": hubspot.event_type,
        "base_url": hubspot.url,
        "requests_per_10_seconds": 1_000,
        "searches_per_second": 50,
        **told,
    }


class HubRig:
    """A rig whose account has a HubSpot account with one contact."""

    def __init__(self, rig: Rig, hubspot: HubSpot) -> None:
        self.rig = rig
        self.hubspot = hubspot
        self.told: dict[str, Any] = {}
        hubspot.contacts[PHONE] = CONTACT
        self.push()  # the destination is made: changes from now on are for it

    @property
    def destination(self) -> Destination:
        found = self.rig.destinations.get(destination_id(self.rig.account))
        assert found is not None
        return found

    def push(self, seconds_max: float = 5.0) -> None:
        """Push everything that is due, as a worker does that has just been started."""
        self.rig.follow()

        async def run() -> None:
            read = settings.read(self.rig.account, a_table(self.hubspot, **self.told), Secret)
            client = Client(Guard([LOOPBACK]), seconds_max=seconds_max)
            outbound = self.rig.outbound(client=client, pushers=pushers([read]))
            try:
                (pusher,) = outbound.pushers
                while await outbound.step() or await pusher.push():
                    pass
            finally:
                await client.close()
                outbound._threads.shutdown()

        asyncio.run(run())

    @property
    def states(self) -> list[str]:
        return self.rig.states(self.destination)

    @property
    def outcomes(self) -> list[str]:
        return self.rig.outcomes(self.destination)


@pytest.fixture
def hubspot() -> Iterator[HubSpot]:
    with a_hubspot() as hubspot:
        yield hubspot


@pytest.fixture
def hub(rig: Rig, hubspot: HubSpot) -> HubRig:
    return HubRig(rig, hubspot)


@APIS
def test_every_change_worth_showing_is_one_event_on_the_contacts_timeline(hub: HubRig, api: str) -> None:
    hub.told["api"] = api
    hub.rig.report(Status.QUEUED, Status.SENT, Status.DELIVERED, Status.READ)

    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent", "Delivered", "Read"]
    message_id = hub.hubspot.events[0].get("properties", hub.hubspot.events[0].get("tokens"))["messageId"]
    assert hub.hubspot.ids == [f"ledger-{message_id}-{version}" for version in (2, 3, 4)]
    assert hub.states == [State.DELIVERED] * 3


@APIS
def test_an_event_says_what_happened_when_and_why_in_the_words_of_the_surface(hub: HubRig, api: str) -> None:
    hub.told["api"] = api
    hub.rig.report(Status.FAILED, error_code="30003", error_text="Unreachable destination handset")

    hub.push()

    (event,) = hub.hubspot.events
    told = event["properties"] if api == "app-events" else event["tokens"]
    assert tuple(told) == PROPERTIES
    assert told["status"] == "Failed"
    assert told["headline"].startswith("SMS message failed · last updated ")
    assert told["headline"].endswith(told["lastUpdated"])
    assert (told["channel"], told["providerCode"]) == ("sms", "30003")
    assert told["reason"]
    assert told["advice"]
    assert event["extraData"]["history"][-1]["status"] == "failed"


@APIS
def test_changes_of_several_messages_go_in_one_request(hub: HubRig, api: str) -> None:
    hub.told["api"] = api
    for number in range(10):
        hub.rig.report(Status.SENT, reference=f"message-{number}")

    hub.push()

    assert len(hub.hubspot.events) == 10
    assert hub.hubspot.count("/batch") + hub.hubspot.count("/batch/create") == 1
    assert hub.hubspot.count("/events") == 0
    assert hub.hubspot.count("/search") == 1


def test_one_duplicate_spoils_a_batch_and_singles_take_it_as_done(hub: HubRig) -> None:
    for number in range(4):
        hub.rig.report(Status.SENT, reference=f"message-{number}")
    hub.push()
    first = list(hub.hubspot.ids)
    hub.rig.execute("UPDATE deliveries SET state = 'pending', next_at = now() WHERE position %% 2 = 0")
    hub.rig.report(Status.SENT, reference="another")

    hub.push()

    assert hub.hubspot.ids[:4] == first
    assert len(hub.hubspot.ids) == len(set(hub.hubspot.ids)) == 5
    assert hub.states == [State.DELIVERED] * 5
    assert hub.hubspot.count("/batch") == 2


def test_one_invalid_event_spoils_a_batch_and_is_parked_alone(hub: HubRig) -> None:
    for number in range(3):
        hub.rig.report(Status.SENT, reference=f"message-{number}")
    hub.hubspot.faults = [None, fails(400, "VALIDATION_ERROR")]
    hub.hubspot.faults = [fails(400, "VALIDATION_ERROR"), None, fails(400, "VALIDATION_ERROR")]

    hub.push()

    assert sorted(hub.states) == [State.DELIVERED, State.DELIVERED, State.PARKED]
    assert sorted(hub.outcomes) == ["delivered", "delivered", "event_refused"]


def test_a_legacy_batch_that_succeeds_in_part_settles_what_was_taken(hub: HubRig) -> None:
    hub.told["api"] = "legacy-v3"
    hub.hubspot.contacts["+15550101"] = "28002"
    hub.rig.report(Status.SENT, reference="one")
    hub.rig.report(Status.SENT, reference="two", recipient="+15550101")
    hub.push()
    hub.rig.report(Status.DELIVERED, reference="one")
    hub.rig.report(Status.DELIVERED, reference="two", recipient="+15550101")
    del hub.hubspot.contacts["+15550101"]  # deleted, while we remember it

    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent", "Delivered"]
    assert sorted(hub.outcomes) == ["contact_gone", "delivered", "delivered", "delivered"]
    hub.hubspot.contacts["+15550101"] = "28003"
    hub.rig.pass_time(10)
    hub.push()
    assert hub.hubspot.of_contact("28003") == ["Delivered"]


def test_a_number_is_searched_for_once_and_remembered_without_the_number(hub: HubRig) -> None:
    hub.rig.report(Status.SENT, Status.DELIVERED)
    hub.rig.report(Status.SENT, reference="another")

    hub.push()

    assert hub.hubspot.count("/search") == 1
    ((lookup, contact_id),) = hub.rig.execute("SELECT lookup, contact_id FROM hubspot_contacts")
    assert contact_id == CONTACT
    assert b"5550100" not in bytes(lookup)


def test_a_contact_that_is_made_soon_after_is_found_and_one_that_never_is_parks(hub: HubRig) -> None:
    hub.rig.report(Status.SENT, recipient="+15550199")
    hub.rig.report(Status.SENT, reference="stranger", recipient="+15550188")
    hub.push()
    hub.hubspot.contacts["+15550199"] = "28099"
    for _ in range(3):
        hub.rig.execute("UPDATE hubspot_contacts SET found_at = found_at - interval '1 hour'")
        hub.rig.pass_time(3_600)
        hub.push()

    assert hub.hubspot.of_contact("28099") == ["Sent"]
    assert hub.states == [State.DELIVERED, State.PARKED]
    assert hub.outcomes == ["contact_unknown", "delivered", *["contact_unknown"] * 3]


def test_an_expired_token_is_refreshed_once_and_the_call_repeated(hub: HubRig) -> None:
    hub.rig.report(Status.SENT)
    hub.hubspot.faults = [fails(401, "EXPIRED_AUTHENTICATION")]

    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent"]
    assert hub.hubspot.count("/oauth/v1/token") == 2


def test_a_token_is_used_until_shortly_before_it_ends(hub: HubRig) -> None:
    hub.hubspot.lives_seconds = 30  # shorter than the margin: every call needs a new one
    hub.rig.report(Status.SENT)
    hub.push()
    short = hub.hubspot.count("/oauth/v1/token")
    hub.hubspot.lives_seconds = 1800
    hub.rig.report(Status.DELIVERED, Status.READ)

    hub.push()

    assert short == 2
    assert hub.hubspot.count("/oauth/v1/token") == short + 1


@pytest.mark.parametrize(
    "act", [fails(403, "MISSING_SCOPES"), fails(401, "INVALID_AUTHENTICATION")], ids=["scope", "authentication"]
)
def test_what_only_the_owner_can_mend_stops_the_account_and_goes_on_after_a_restart(hub: HubRig, act: Any) -> None:
    hub.rig.report(Status.SENT, Status.DELIVERED)
    hub.hubspot.faults = [act]

    hub.rig.follow()

    async def push_once() -> None:
        read = settings.read(hub.rig.account, a_table(hub.hubspot), Secret)
        outbound = hub.rig.outbound(pushers=pushers([read]))
        (pusher,) = outbound.pushers
        await outbound.step()
        assert await pusher.push()
        assert not await pusher.push()
        await outbound.client.close()
        outbound._threads.shutdown()

    asyncio.run(push_once())
    assert hub.destination.disabled_reason is Reason.REFUSED
    assert hub.rig.deliveries.tidy() == 2
    assert hub.states == [State.HELD, State.HELD]
    assert hub.hubspot.events == []

    hub.push()

    assert hub.destination.disabled_at is None
    assert hub.hubspot.of_contact(CONTACT) == ["Sent", "Delivered"]


def test_a_refresh_token_that_is_not_good_any_more_stops_the_account(hub: HubRig) -> None:
    hub.rig.report(Status.SENT)
    hub.told["refresh_token"] = "stale"

    hub.rig.follow()

    async def push_once() -> None:
        read = settings.read(hub.rig.account, a_table(hub.hubspot, **hub.told), Secret)
        outbound = hub.rig.outbound(pushers=pushers([read]))
        await outbound.step()
        await outbound.pushers[0].push()
        await outbound.client.close()
        outbound._threads.shutdown()

    asyncio.run(push_once())

    assert hub.destination.disabled_reason is Reason.REFUSED
    assert hub.outcomes == ["token_refused"]


@pytest.mark.parametrize(
    ("act", "seconds"),
    [
        (throttles(), 10),
        (throttles(x_hubspot_ratelimit_interval_milliseconds="4000"), 4),
        (throttles(retry_after="120"), 120),
    ],
    ids=["window", "told window", "retry-after"],
)
def test_a_limit_rests_the_account_and_uses_up_no_attempt(hub: HubRig, act: Any, seconds: int) -> None:
    hub.rig.report(Status.SENT)
    hub.hubspot.faults = [act]

    hub.push()
    assert hub.hubspot.events == []
    assert hub.outcomes == []
    hub.rig.pass_time(seconds - 1)
    hub.push()
    assert hub.hubspot.events == []
    hub.rig.pass_time(seconds * 0.2 + 1.1)
    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent"]


def test_the_daily_limit_rests_the_account_until_its_midnight(hub: HubRig) -> None:
    hub.told["time_zone"] = "Pacific/Auckland"
    hub.rig.report(Status.SENT)
    hub.hubspot.faults = [throttles("DAILY")]

    hub.push()

    ((rests,),) = hub.rig.execute(
        "SELECT (paused_until - clock_timestamp())"
        " BETWEEN (date_trunc('day', now() AT TIME ZONE 'Pacific/Auckland') + interval '1 day'"
        "          - (now() AT TIME ZONE 'Pacific/Auckland')) - interval '1 minute' AND interval '29 hours'"
        " FROM destinations"
    )
    assert rests


@pytest.mark.parametrize("act", [answers(502, b"<html>bad gateway</html>"), hangs], ids=["gateway", "hang"])
def test_when_hubspot_is_unwell_everything_is_tried_again_later(hub: HubRig, act: Any) -> None:
    hub.rig.report(Status.SENT)
    hub.hubspot.faults = [act]

    hub.push(seconds_max=0.5)
    assert hub.states == [State.PENDING]
    hub.rig.pass_time(10)
    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent"]
    assert hub.outcomes[1] == "delivered"


def test_an_answer_that_was_lost_is_found_to_be_there_and_not_told_twice(hub: HubRig) -> None:
    """The event is taken, and the connection breaks before the answer is out."""
    hub.rig.report(Status.SENT)

    def takes_and_dies(handler: Any) -> None:
        import msgspec  # noqa: PLC0415

        hub.hubspot.events.append(msgspec.json.decode(handler.body))
        handler.close_connection = True

    hub.hubspot.faults = [takes_and_dies]
    hub.push()
    hub.rig.pass_time(10)
    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent"]
    assert hub.states == [State.DELIVERED]


def test_the_contacts_current_status_never_steps_back(hub: HubRig) -> None:
    hub.told |= {"status_property": "message_status", "updated_property": "message_status_at"}
    hub.rig.report(Status.SENT, reference="older")
    hub.rig.report(Status.SENT, Status.DELIVERED, reference="newer")
    hub.push()
    hub.rig.report(Status.DELIVERED, Status.READ, reference="older")

    hub.push()

    told = [each["message_status"] for each in hub.hubspot.current[CONTACT]]
    assert told[-1] == "Delivered"
    assert told in (["Sent", "Sent", "Delivered"], ["Sent", "Delivered"])
    assert all(each["message_status_at"].endswith("Z") for each in hub.hubspot.current[CONTACT])
    assert len(hub.hubspot.events) == 5


def test_a_property_that_is_refused_keeps_no_event_from_its_timeline(hub: HubRig) -> None:
    hub.told["status_property"] = "nobody_has_defined_it"
    hub.hubspot.property_faults = [fails(400, "VALIDATION_ERROR")]
    hub.rig.report(Status.SENT)

    hub.push()

    assert hub.states == [State.DELIVERED]


def test_a_property_that_cannot_be_told_now_is_told_later(hub: HubRig) -> None:
    hub.told["status_property"] = "message_status"
    hub.hubspot.property_faults = [throttles()]
    hub.rig.report(Status.SENT)

    hub.push()
    assert hub.states == [State.PENDING]
    hub.rig.pass_time(13)
    hub.push()

    assert [each["message_status"] for each in hub.hubspot.current[CONTACT]] == ["Sent"]
    assert hub.hubspot.of_contact(CONTACT) == ["Sent"]
    assert hub.states == [State.DELIVERED]


def test_while_one_process_pushes_to_an_account_no_other_does(hub: HubRig) -> None:
    hub.rig.report(Status.SENT)
    hub.rig.follow()
    hub.rig.deliveries.hand_on()
    lease = hub.rig.deliveries.lease(hub.destination.id, 60.0)
    assert lease is not None

    hub.push()
    assert hub.hubspot.events == []
    hub.rig.pass_time(61)
    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent"]
    assert not hub.rig.deliveries.renew(hub.destination.id, lease, 60.0, [])


def test_an_account_that_is_not_configured_any_more_is_held_until_it_is_again(hub: HubRig) -> None:
    hub.rig.report(Status.SENT)
    hub.rig.follow()
    hub.rig.deliveries.hand_on()

    assert hub.rig.destinations.retire(Kind.HUBSPOT, [hub.destination.id]) == 0
    assert hub.rig.destinations.retire(Kind.HUBSPOT, []) == 1
    hub.rig.deliveries.tidy()
    assert hub.states == [State.HELD]
    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent"]


def test_nothing_of_an_erased_message_is_pushed_and_its_contact_is_forgotten(hub: HubRig) -> None:
    stream_id = hub.rig.report(Status.SENT)
    hub.push()
    hub.rig.report(Status.DELIVERED)
    with hub.rig.ledger.reading() as cursor:
        assert erasing.forget(cursor, [stream_id]) == 2  # a contact that was looked up, and a delivery
        assert erasing.forget(cursor, [stream_id]) == 0
    hub.rig.execute("DELETE FROM message_keys WHERE stream_id = %s", stream_id)

    hub.push()

    assert hub.hubspot.of_contact(CONTACT) == ["Sent"]
    assert hub.states == []


def test_what_hubspot_answers_to_a_refusal_is_kept_with_its_correlation_id(hub: HubRig) -> None:
    hub.rig.report(Status.SENT)
    hub.hubspot.faults = [fails(400, "VALIDATION_ERROR")]

    hub.push()

    (delivery,) = hub.rig.deliveries.newest(hub.destination.id, [], before=None, limit=2)
    (attempt,) = hub.rig.deliveries.attempts(hub.destination, delivery.partition, delivery.position)
    assert (attempt.answer, attempt.outcome) == (400, "event_refused")
    assert CORRELATION_ID.encode() in attempt.excerpt


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("AppEventOccurrence", {"colour": "blue"}),
        ("AppEventOccurrence", {"id": 7}),
        ("AppEventOccurrence", {"timestamp": "yesterday"}),
        ("AppEventOccurrence", {"properties": {"version": 3}}),
        ("PublicObjectSearchRequest", {"sorts": [{"propertyName": "createdate"}]}),
        ("PublicObjectSearchRequest", {"filterGroups": [{"filters": [{"propertyName": "phone", "operator": "IS"}]}]}),
    ],
)
def test_the_published_schemas_tell_a_wrong_body(name: str, change: dict[str, object]) -> None:
    right: dict[str, object] = {"eventTypeName": "a", "id": "b", "properties": {}} if name[0] == "A" else {}
    hubspot_schemas.check(name, right)

    with pytest.raises(jsonschema.ValidationError):
        hubspot_schemas.check(name, right | change)


def test_a_budget_lets_no_more_through_in_any_stretch_of_time() -> None:
    now = [0.0]
    budget = Budget(3, 10.0, clock=lambda: now[0])

    starts = []
    for _ in range(10):
        starts.append(now[0] + budget.wait())
        now[0] += 0.5

    assert starts[:3] == [0.0, 0.5, 1.0]
    assert all(later - earlier >= 10.0 for earlier, later in zip(starts, starts[3:], strict=False))


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"client_id": 7}, "client_id"),
        ({"api": "v1"}, "api"),
        ({"statuses": []}, "statuses"),
        ({"statuses": ["GONE"]}, "statuses"),
        ({"phone_properties": ["Phone Number"]}, "phone_properties"),
        ({"requests_per_10_seconds": 0}, "requests_per_10_seconds"),
        ({"time_zone": "Nowhere/Land"}, "time_zone"),
        ({"base_url": "ftp://example.com"}, "base_url"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_setting_is_named_and_its_value_is_not_repeated(
    hubspot: HubSpot, told: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named) as refused:
        settings.read("account-1", a_table(hubspot, **told), Secret)

    assert "secret-1" not in str(refused.value)
    assert "Nowhere" not in str(refused.value)

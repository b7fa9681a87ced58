"""Server-sent events: every recorded event once, in order, to those who may see it, also across reconnections."""

import re

import pytest

from tests.http.callbacks import (
    instant,
    meta,
    meta_failure,
    meta_status,
    new_phone,
    new_sid,
    new_wamid,
    only,
    send,
    twilio,
)
from tests.http.sse import Stream, open_streams, settled
from tests.http.test_api import registered, shown
from tests.plugins.service import Service


@pytest.fixture
def key(service: Service) -> str:
    return service.new_key("meta-main", "whatsapp")[1]


def statuses(events):
    return [event.data["message"]["status"] for event in events]


def positions(events):
    return [event.data["position"] for event in events]


def report(service, wamid, status, at=0, **fields):
    assert send(service, meta(meta_status(wamid, status, at, **fields))).status_code == 200


# One message


def test_a_message_is_shown_as_it_stands_and_then_at_every_change(service, key):
    api, wamid = service.client(key), new_wamid()
    message_id = registered(api, provider_message_id=wamid, client_reference="order-1")

    with Stream(service, f"/v1/messages/{message_id}/events", key) as stream:
        first = stream.next()
        for second, status in enumerate(("sent", "delivered", "read")):
            report(service, wamid, status, second)
        events = stream.take(3)

    assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
    assert first.data["message"]["status"] == "SENT"  # acknowledged by the sender
    assert statuses(events) == ["SENT", "DELIVERED", "READ"]
    assert [event.type for event in (first, *events)] == ["message"] * 4
    assert events[-1].data["message"] == shown(api, message_id)
    assert [event.data["change"]["verdict"] for event in events] == ["repeat", "advance", "advance"]


def test_the_timeline_of_a_stream_has_the_steps_of_the_channel(service, key):
    wamid = new_wamid()
    message_id = registered(service.client(key), provider_message_id=wamid)
    report(service, wamid, "delivered", 5)

    with Stream(service, f"/v1/messages/{message_id}/events", key) as stream:
        timeline = stream.next().data["timeline"]

    assert [(step["label"], step["state"]) for step in timeline] == [
        ("Queued", "done"),
        ("Sent", "done"),
        ("Delivered", "done"),
        ("Read", "next"),
    ]
    assert timeline[2]["at"] == instant(5)


def test_every_event_of_a_message_comes_once_across_reconnections(service, key):
    wamid = new_wamid()
    message_id = registered(service.client(key), provider_message_id=wamid)
    path, last_id, seen = f"/v1/messages/{message_id}/events", "0", []

    for second, status in enumerate(("sent", "sent", "delivered", "read", "failed")):
        report(service, wamid, status, second)
        with Stream(service, path, key, last_id) as stream:
            seen += stream.until(lambda event: event.data["change"]["provider_status"] == status)  # noqa: B023
            last_id = stream.last_id

    with Stream(service, path, key, "0") as stream:
        every = stream.take(len(seen))
    assert seen == every
    assert len({event.id for event in seen}) == len(seen)
    assert statuses(seen)[-5:] == ["SENT", "SENT", "DELIVERED", "READ", "READ"]
    history = service.client(key).get(f"/v1/messages/{message_id}/history?limit=200").json()["items"]
    assert [item["position"] for item in history] == [event.data["change"]["position"] for event in seen]


def test_the_id_may_come_as_a_parameter_where_no_header_can_be_set(service, key):
    message_id = registered(service.client(key))

    with Stream(service, f"/v1/messages/{message_id}/events?last_event_id=0", key) as stream:
        registration = stream.next().data["change"]
    with Stream(service, f"/v1/events?last_event_id={registration['position'] - 1}", key) as tail:
        event = tail.next()

    assert registration["kind"] == "registration"
    assert event.data == registration
    assert event.id == str(registration["position"])


def test_a_stream_follows_a_message_through_its_hand_off(service):
    key = service.new_key("twilio-main", "sms")[1]
    api, sid = service.client(key), new_sid()
    message_id = registered(api, "sms", client_reference="order-7")

    with Stream(service, f"/v1/messages/{message_id}/events", key) as stream:
        first = stream.next()
        send(service, twilio(sid, "sent"))  # overtakes the hand-off
        answer = api.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": sid})
        assert answer.status_code == 200
        send(service, twilio(sid, "delivered"))
        events = stream.until(lambda event: event.data["message"]["status"] == "DELIVERED")

    assert first.data["message"]["status"] == "UNKNOWN"
    assert {event.data["message"]["message_id"] for event in events} == {message_id}
    assert {event.data["change"]["message_id"] for event in events} == {message_id}
    assert "link" in [event.data["change"]["kind"] for event in events]
    assert events[-1].data["message"] == shown(api, message_id)
    with Stream(service, f"/v1/messages/{message_id}/events", key, first.id) as stream:
        assert stream.take(len(events)) == events


def test_a_correction_is_shown_to_those_who_follow(service, key):
    api, wamid = service.client(key), new_wamid()
    report(service, wamid, "delivered")
    send(service, meta(meta_failure(wamid, 9)))
    message_id = only(api, wamid)["message_id"]

    with Stream(service, f"/v1/messages/{message_id}/events", key) as stream:
        assert stream.next().data["message"]["conflict"] == "open"
        api.post(f"/v1/messages/{message_id}/corrections", json={"to": "failed", "by": "ops", "why": "asked"})
        corrected = stream.next().data

    assert (corrected["change"]["kind"], corrected["change"]["status_before"]) == ("correction", "DELIVERED")
    assert (corrected["message"]["status"], corrected["message"]["conflict"]) == ("FAILED", "settled")
    assert corrected["timeline"][-1]["label"] == "Failed"


# The tail


def test_the_tail_tells_every_event_of_a_keys_account_and_channel_in_order(service, key):
    mine, others = [new_wamid() for _ in range(5)], [new_sid() for _ in range(5)]

    with Stream(service, "/v1/events", key) as stream:
        for wamid, sid in zip(mine, others, strict=True):
            send(service, twilio(sid, "delivered"))
            report(service, wamid, "delivered")
            report(service, wamid, "read", 3)
        events = stream.until(
            lambda event: event.data["provider_message_id"] == mine[-1] and event.data["status"] == "READ"
        )

    ours = [event for event in events if event.data["provider_message_id"] in mine]
    assert [(event.data["provider_message_id"], event.data["status"]) for event in ours] == [
        (wamid, status) for wamid in mine for status in ("DELIVERED", "READ")
    ]
    assert {(event.type, event.data["account"], event.data["channel"]) for event in events} == {
        ("change", "meta-main", "whatsapp")
    }
    assert positions(events) == sorted(positions(events))


def test_the_tail_resumes_without_loss_and_without_repeating(service, key):
    wamids = [new_wamid() for _ in range(12)]
    seen, last_id = [], None

    with Stream(service, "/v1/events", key) as stream:
        report(service, wamids[0], "sent")
        seen += stream.until(lambda event: event.data["provider_message_id"] == wamids[0])
        last_id = stream.last_id
    for index in range(1, 12, 3):
        for wamid in wamids[index : index + 2]:
            report(service, wamid, "sent")  # nobody listens
        with Stream(service, "/v1/events", key, last_id) as stream:
            for wamid in wamids[index + 2 : index + 3]:
                report(service, wamid, "sent")
            last = wamids[min(index + 2, 11)] if index + 2 < 12 else wamids[-1]
            seen += stream.until(lambda event: event.data["provider_message_id"] == last)  # noqa: B023
            last_id = stream.last_id

    ours = [event.data["provider_message_id"] for event in seen if event.data["provider_message_id"] in wamids]
    assert ours == wamids
    assert positions(seen) == sorted(set(positions(seen)))


def test_a_client_that_got_nothing_yet_still_knows_where_to_go_on(service, key):
    with Stream(service, "/v1/events", key) as stream:
        settled(service, 1)
        assert stream._block() is None  # the greeting
        last_id = stream.last_id
    wamid = new_wamid()
    report(service, wamid, "sent")

    with Stream(service, "/v1/events", key, last_id) as stream:
        event = stream.until(lambda event: event.data["provider_message_id"] == wamid)[-1]

    assert stream.retry
    assert 1_000 <= stream.retry <= 5_000
    assert event.data["kind"] == "observation"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("changes=status", [("m1", "DELIVERED"), ("m1", "READ"), ("m2", "FAILED")]),
        ("status=READ", [("m1", "READ")]),
        ("status=READ,FAILED", [("m1", "READ"), ("m2", "FAILED")]),
        ("client_reference={m2}", [("m2", "UNKNOWN"), ("m2", "FAILED")]),
        ("provider=meta&changes=status&recipient=%2B{phone}", [("m2", "FAILED")]),
    ],
)
def test_the_tail_can_be_filtered(service, key, query, wanted):
    api, wamid, reference, phone, end = service.client(key), new_wamid(), new_sid(), new_phone(), new_sid()
    with Stream(service, "/v1/events?" + query.format(m2=reference, phone=phone), key) as stream:
        report(service, wamid, "delivered")
        report(service, wamid, "delivered", 2)
        report(service, wamid, "read", 3)
        message_id = registered(api, client_reference=reference, recipient=f"+{phone}")
        failure = {"failure": {"text": "not sent"}}
        api.post(f"/v1/messages/{message_id}/handoff", json=failure)
        names = {wamid: "m1", reference: "m2"}
        seen = []
        while len(seen) < len(wanted):
            data = stream.next().data
            name = names.get(data["client_reference"]) or names.get(data["provider_message_id"])
            seen += [(name, data["status"])] if name else []

    assert seen == wanted
    assert end


def test_nothing_is_told_twice_while_many_come_and_go(service, key):
    """Clients join in the middle of writing, at places that are theirs alone."""
    wamids = [new_wamid() for _ in range(40)]
    with Stream(service, "/v1/events", key) as first:
        streams = []
        for wamid in wamids:
            report(service, wamid, "sent")
            streams.append(Stream(service, "/v1/events", key, "0" if len(streams) % 3 == 0 else first.last_id or None))
        heard = [stream.until(lambda event: event.data["provider_message_id"] == wamids[-1]) for stream in streams]
        for stream in streams:
            stream.close()

    for events in heard:
        assert positions(events) == sorted(set(positions(events)))
    for index in range(0, 40, 3):
        ours = [event.data["provider_message_id"] for event in heard[index]]
        assert [wamid for wamid in ours if wamid in wamids] == wamids
    settled(service, 0)
    assert open_streams(service) == 0


# What is refused


@pytest.mark.parametrize("last_id", ["x", "-1", "1.2", "999999999999999", "1-", "1" * 40])
def test_an_id_that_was_never_one_of_the_tail_is_refused(service, key, last_id):
    with Stream(service, "/v1/events", key, last_id) as stream:
        assert (stream.status, stream.body()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("last_id", ["x", "1", "1-2", "1-2-3-4", "-1-2-3"])
def test_an_id_that_was_never_one_of_a_message_is_refused(service, key, last_id):
    message_id = registered(service.client(key))

    with Stream(service, f"/v1/messages/{message_id}/events", key, last_id) as stream:
        assert (stream.status, stream.body()["code"]) == (400, "invalid_parameter")


@pytest.mark.parametrize("query", ["status=NONE", "changes=some", "colour=red", "changes=all&changes=all"])
def test_a_filter_that_does_not_exist_is_refused(service, key, query):
    with Stream(service, f"/v1/events?{query}", key) as stream:
        assert (stream.status, stream.body()["code"]) == (400, "invalid_parameter")


def test_a_request_for_the_head_only_is_answered_and_opens_nothing(service, key):
    answer = service.client(key).head("/v1/events")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])

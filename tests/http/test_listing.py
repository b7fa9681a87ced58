"""Listing messages: order, pages, filters."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.http.callbacks import (
    instant,
    meta,
    meta_failure,
    meta_status,
    new_phone,
    new_sid,
    new_wamid,
    send,
    twilio,
)
from tests.http.test_api import MESSAGE_FIELDS, register, registered


@pytest.fixture(scope="module")
def listed(start_module_service, new_database):
    """A server of its own: these tests count everything that a key may see."""
    return start_module_service(new_database())


@pytest.fixture
def whatsapp(service):
    return service.api("meta-main", "whatsapp")


def page(api, **parameters):
    answer = api.get("/v1/messages", params={name: str(value) for name, value in parameters.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(api, **parameters):
    return [message["message_id"] for message in page(api, limit=200, **parameters)["items"]]


def every_page(api, limit, **parameters):
    pages, cursor = [], {}
    for _ in range(500):
        told = page(api, limit=limit, **parameters, **cursor)
        pages.append([message["message_id"] for message in told["items"]])
        if told["next_cursor"] is None:
            return pages
        cursor = {"cursor": told["next_cursor"]}
    pytest.fail("the pages do not end")


def test_a_listing_shows_messages_as_they_are_shown_alone(whatsapp):
    message_id = registered(whatsapp, client_reference=(reference := new_wamid()))

    (message,) = page(whatsapp, client_reference=reference)["items"]

    assert set(message) == MESSAGE_FIELDS
    assert message == whatsapp.get(f"/v1/messages/{message_id}").json()


def test_pages_hold_every_message_once_newest_first(listed):
    api = listed.api("viber-main", "viber")
    made = [registered(api, "viber") for _ in range(23)]

    for limit in (1, 4, 23, 24, 200):
        pages = every_page(api, limit)
        assert list(itertools.chain(*pages)) == made[::-1]
        assert [len(one) for one in pages[:-1]] == [limit] * (len(pages) - 1)


def test_a_page_is_fifty_messages_unless_told_otherwise(listed):
    api = listed.api("meta-wins", "whatsapp")
    send(listed, meta(*(meta_status(new_wamid()) for _ in range(60)), account="meta-wins"))

    assert len(page(api)["items"]) == 50
    assert [len(one) for one in every_page(api, 50)] == [50, 10]


def test_messages_of_one_instant_are_paged_without_loss(listed):
    """A batch's messages are opened in one transaction, so the cursor has to tell them apart by id."""
    api = listed.api("meta-other", "whatsapp")
    send(listed, meta(*(meta_status(new_wamid()) for _ in range(30)), account="meta-other"))
    opened = {message["opened_at"] for message in page(api, limit=200)["items"]}

    pages = every_page(api, 7)

    assert len(opened) == 1
    assert len(set(itertools.chain(*pages))) == 30


def test_pages_lose_nothing_while_messages_arrive(listed):
    api = listed.api("twilio-main", "sms")
    known = [registered(api, "sms") for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(register, api, "sms") for _ in range(20)]
        pages = every_page(api, 3)
        for each in writing:
            assert each.result().status_code == 201

    seen = list(itertools.chain(*pages))
    assert len(seen) == len(set(seen))
    assert set(known) <= set(seen)


def test_an_unread_page_is_empty(listed):
    api = listed.api("twilio-main", "whatsapp")

    assert page(api) == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    "written", ["+{0}", "{0}", "+{0:.1} ({0[1]}{0[2]}{0[3]}) {0[4]}{0[5]}{0[6]}-{0[7]}{0[8]}{0[9]}{0[10]}"]
)
def test_a_recipient_is_found_however_the_number_is_written(service, whatsapp, written):
    phone, wamid = new_phone(), new_wamid()
    send(service, meta(meta_status(wamid, recipient_id=phone)))

    (message,) = page(whatsapp, recipient=written.format(phone))["items"]

    assert (message["recipient"], message["provider_message_id"]) == (f"+{phone}", wamid)


def test_a_recipient_that_is_no_number_is_found(whatsapp):
    name = f"FAKE{new_phone()}=="
    message_id = registered(whatsapp, recipient=name)

    assert ids(whatsapp, recipient=name) == [message_id]


def test_filters_narrow_and_combine(service):
    api, mark = service.api("twilio-main", "sms"), new_wamid()
    sids = [new_sid() for _ in range(4)]
    by_sid = {sid: registered(api, "sms", provider_message_id=sid, client_reference=mark) for sid in sids}
    sent, delivered, failed, queued = sids
    send(service, twilio(sent, "sent"))
    send(service, twilio(delivered, "delivered"))
    send(service, twilio(failed, "undelivered", ErrorCode="30003"))

    def matching(**parameters):
        return {sid for sid, id_ in by_sid.items() if id_ in ids(api, client_reference=mark, **parameters)}

    assert matching() == set(sids)
    assert matching(status="DELIVERED") == {delivered}
    assert matching(status="sent,failed") == {sent, failed}
    assert matching(status="QUEUED") == {queued}
    assert matching(status="READ") == set()
    assert matching(failure_category="recipient") == {failed}
    assert matching(failure_category="content") == set()
    assert matching(conflict="none") == set(sids)
    assert matching(conflict="open") == set()
    assert matching(provider="twilio") == set(sids)
    assert matching(provider="meta") == set()
    assert matching(provider_message_id=sent, status="SENT") == {sent}
    assert matching(provider_message_id=sent, status="FAILED") == set()


def test_a_status_may_be_given_several_times(service):
    api, mark, sid = service.api("twilio-main", "sms"), new_wamid(), new_sid()
    registered(api, "sms", provider_message_id=sid, client_reference=mark)
    send(service, twilio(sid, "delivered"))

    found = api.get("/v1/messages", params=[("status", "SENT"), ("status", "DELIVERED"), ("client_reference", mark)])

    assert len(found.json()["items"]) == 1


def test_a_conflict_is_found(service, whatsapp):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "delivered"), meta_failure(wamid)))

    assert len(ids(whatsapp, conflict="open", provider_message_id=wamid)) == 1
    assert ids(whatsapp, conflict="none", provider_message_id=wamid) == []


@pytest.mark.parametrize("clock", ["delivered_at", "sent_at", "last_updated"])
def test_a_named_clock_bounds_the_listing(service, whatsapp, clock):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "delivered", 100)))

    def inside(since: int, until: int) -> bool:
        bounds = {"since": instant(since), "until": instant(until), "clock": clock}
        return len(ids(whatsapp, provider_message_id=wamid, **bounds)) == 1

    assert inside(100, 101)
    assert inside(99, 101)
    assert not inside(99, 100)
    assert not inside(101, 200)


def test_the_clock_is_our_own_unless_named(service, whatsapp):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "delivered", 100)))
    (message,) = page(whatsapp, provider_message_id=wamid)["items"]

    assert ids(whatsapp, provider_message_id=wamid, since=message["opened_at"]) == [message["message_id"]]
    assert ids(whatsapp, provider_message_id=wamid, until=message["opened_at"]) == []
    assert ids(whatsapp, provider_message_id=wamid, clock="read_at", since="2020-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "written", ["2030-01-01T00:00:00+00:00", "2030-01-01T02:00:00+02:00", "2030-01-01T00:00:00.000000Z"]
)
def test_an_instant_may_be_written_with_any_offset(whatsapp, written):
    answer = whatsapp.get("/v1/messages", params={"since": written})
    unescaped = whatsapp.get(f"/v1/messages?since={written}")

    assert (answer.status_code, answer.json()["items"]) == (200, [])
    assert unescaped.status_code == 200

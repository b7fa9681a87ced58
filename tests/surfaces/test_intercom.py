"""The Intercom Inbox App: signed requests of documented shapes, answered with canvases as Intercom's schemas say."""

import hashlib
import hmac
import json
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.surfaces.intercom import read
from projections.conversations import Conversations
from tests.http.callbacks import (
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
from tests.http.test_api import registered
from tests.plugins.service import Service, eventually
from tests.projections.following import follow
from tests.surfaces.canvas_kit import problems
from tests.surfaces.inbox import (
    INTERCOM,
    OLD_SECRET,
    OURS,
    SECRET,
    THEIRS,
    canvas,
    click,
    contact,
    fields,
    payload,
    post,
    rows,
    texts,
)


def sent_to(service: Service, phone: str, *statuses: str) -> int:
    """Have a WhatsApp message to this number recorded; return its id."""
    wamid = new_wamid(phone)
    for second, status in enumerate(statuses):
        assert send(service, meta(meta_status(wamid, status, second, recipient_id=phone))).status_code == 200
    return only(service.api("meta-main", "whatsapp"), wamid)["message_id"]


# What is shown


def test_a_contact_without_messages_is_told_so(inbox):
    shown_canvas = canvas(inbox, "initialize", payload(**contact(f"+{new_phone()}")))

    assert rows(shown_canvas) == []
    assert "No messages are recorded for this conversation or contact." in texts(shown_canvas)
    assert any(text.startswith("As of ") for text in texts(shown_canvas))


@pytest.mark.parametrize(
    ("statuses", "label"),
    [
        (["sent"], "Sent"),
        (["delivered"], "Delivered"),
        (["read"], "Read"),
        (["delivered", "deleted"], "Deleted by Recipient"),
    ],
)
def test_the_messages_to_a_contact_are_listed_with_their_labels(inbox, statuses, label):
    phone = new_phone()
    message_id = sent_to(inbox, phone, *statuses)

    (row,) = rows(canvas(inbox, "initialize", payload(**contact(f"+{phone}"))))

    assert row["id"] == f"msg:{message_id}"
    assert row["title"].split(" ", 1)[1] == label
    assert row["subtitle"] == f"WhatsApp to +{phone}"


def test_what_nobody_has_confirmed_is_a_send_attempted(inbox):
    phone = new_phone()
    registered(inbox.api("twilio-main", "sms"), "sms", recipient=f"+{phone}")

    (row,) = rows(canvas(inbox, "initialize", payload(**contact(f"+1 ({phone[1:4]}) {phone[4:]}"))))

    assert row["title"] == "… Send Attempted"
    assert row["subtitle"] == f"SMS to +{phone}"


def test_all_messages_of_a_contact_are_listed_newest_first_over_all_accounts(inbox):
    phone = new_phone()
    first = sent_to(inbox, phone, "sent")
    sid = new_sid()
    send(inbox, twilio(sid, "delivered", To=f"+{phone}"))
    second = only(inbox.api("twilio-main", "sms"), sid)["message_id"]

    found = rows(canvas(inbox, "initialize", payload(**contact(f"+{phone}"))))

    assert [row["id"] for row in found] == [f"msg:{second}", f"msg:{first}"]


@pytest.fixture
def follow_log(inbox):
    return lambda: follow(inbox.parts.ledger, projection=Conversations())


def test_the_messages_of_a_conversation_are_listed_whoever_they_went_to(inbox, follow_log):
    api, conversation, sid = inbox.api("twilio-main", "sms"), new_sid(), new_sid()
    told = {"conversation": {"conversation_id": conversation, "part_id": "9"}}
    first = registered(api, "sms", recipient=f"+{new_phone()}", **told)
    handed_off = registered(api, "sms", recipient=f"+{new_phone()}", **told)
    api.post(f"/v1/messages/{handed_off}/handoff", json={"provider_message_id": sid})
    send(inbox, twilio(sid, "delivered"))
    follow_log()

    found = rows(canvas(inbox, "initialize", payload(conversation={"id": conversation})))
    by_context = rows(
        canvas(inbox, "initialize", payload(conversation=None, context={"conversation_id": conversation}))
    )

    assert {row["id"]: row["title"].split(" ", 1)[1] for row in found} == {
        f"msg:{first}": "Send Attempted",
        f"msg:{handed_off}": "Delivered",
    }
    assert by_context == found


def test_a_failed_message_shows_reason_advice_and_history(inbox):
    phone, wamid = new_phone(), new_wamid()
    send(inbox, meta(meta_status(wamid, "sent", 0, recipient_id=phone)))
    send(inbox, meta({**meta_failure(wamid, 4), "recipient_id": phone}))
    message = only(inbox.api("meta-main", "whatsapp"), wamid)
    listed = canvas(inbox, "initialize", payload(**contact(f"+{phone}")))
    assert rows(listed)[0]["subtitle"] == message["failure"]["title"]

    detail = click(inbox, f"msg:{message['message_id']}", listed, **contact(f"+{phone}"))

    assert fields(detail)["Delivery Status"] == "✕ Delivery Failed"
    assert fields(detail)["Failure reason"] == message["failure"]["text"]
    assert fields(detail)["Failure code"] == message["failure"]["code"]
    assert message["failure"]["title"] in texts(detail)
    assert message["failure"]["advice"] in texts(detail)
    assert [row["title"] for row in rows(detail)] == ["Callback: failed → Delivery Failed", "Callback: sent → Sent"]
    assert {"refresh", "back"} <= {part.get("id") for part in detail["content"]["components"]}


def test_refresh_shows_what_has_happened_meanwhile_and_when_that_was_looked_up(inbox):
    phone, wamid = new_phone(), new_wamid()
    send(inbox, meta(meta_status(wamid, "sent", 0, recipient_id=phone)))
    told = contact(f"+{phone}")
    listed = canvas(inbox, "initialize", payload(**told))
    detail = click(inbox, rows(listed)[0]["id"], listed, **told)
    send(inbox, meta(meta_status(wamid, "delivered", 5, recipient_id=phone)))

    again, listed_again = click(inbox, "refresh", detail, **told), click(inbox, "refresh", listed, **told)
    back = click(inbox, "back", again, **told)

    assert fields(detail)["Delivery Status"] == "✓ Sent"
    assert fields(again)["Delivery Status"] == "✓✓ Delivered"
    assert rows(listed_again)[0]["title"] == rows(back)[0]["title"] == "✓✓ Delivered"
    assert again["stored_data"]["as_of"] >= detail["stored_data"]["as_of"]


def test_a_conflict_is_shown(inbox):
    phone, wamid = new_phone(), new_wamid()
    send(inbox, meta(meta_status(wamid, "delivered", 0, recipient_id=phone)))
    send(inbox, meta({**meta_failure(wamid, 4), "recipient_id": phone}))
    listed = canvas(inbox, "initialize", payload(**contact(f"+{phone}")))

    detail = click(inbox, rows(listed)[0]["id"], listed)

    assert fields(detail)["Delivery Status"] == "✓✓ Delivered"
    assert any("contradict" in text for text in texts(detail))


def test_a_long_list_has_pages_and_a_way_back(inbox):
    phone = new_phone()
    told = contact(f"+{phone}")
    ids = [f"msg:{sent_to(inbox, phone, 'sent')}" for _ in range(19)]
    first = canvas(inbox, "initialize", payload(**told))

    second = click(inbox, "older", first, **told)
    third = click(inbox, "older", second, **told)
    detail = click(inbox, rows(second)[3]["id"], second, **told)
    back = click(inbox, "back", detail, **told)
    newest = click(inbox, "newest", third, **told)

    pages = [[row["id"] for row in rows(page)] for page in (first, second, third)]
    assert [id_ for page in pages for id_ in page] == ids[::-1]
    assert [len(page) for page in pages] == [8, 8, 3]
    assert rows(back) == rows(second)
    assert rows(newest) == rows(first)
    assert "older" not in {part.get("id") for part in third["content"]["components"]}
    assert "newest" not in {part.get("id") for part in first["content"]["components"]}


def test_hostile_texts_are_shown_as_text_and_stay_within_limits(inbox):
    phone, api = new_phone(), inbox.api("twilio-main", "sms")
    evil = "[click](https://evil.example) **bold** \u202e<script>" + "x" * 1_900
    message_id = registered(
        api, "sms", recipient=f"+{phone}", client_reference="[a](https://evil.example)" + "é" * 480,
        failure={"text": evil[:2_000], "code": "[c](https://evil.example)"},
    )  # fmt: skip
    listed = canvas(inbox, "initialize", payload(**contact(f"+{phone}")))

    detail = click(inbox, f"msg:{message_id}", listed)

    for text in (*texts(listed), *texts(detail)):
        assert "](" not in text
        assert "**" not in text
    assert all(len(value) <= 160 for value in fields(detail).values())


def test_the_configuration_names_the_accounts_and_ends(inbox):
    shown_canvas = canvas(inbox, "configure", payload())
    ended = post(inbox, "configure", payload(component_id="done", current_canvas=shown_canvas, input_values={}))

    accounts = [item["value"] for part in shown_canvas["content"]["components"] for item in part.get("items", ())]
    assert accounts == ["meta-main", "twilio-main"]
    assert (ended.status_code, ended.json()) == (200, {"results": {}})
    assert problems("configure", ended.content) == []


# Who may see it


def test_a_workspace_sees_messages_of_its_own_accounts_only(inbox):
    phone = new_phone()
    sids = {account: new_sid() for account in ("twilio-main", "twilio-other")}
    for account, sid in sids.items():
        send(inbox, twilio(sid, "delivered", account=account, To=f"+{phone}"))
    mine = only(inbox.api("twilio-main", "sms"), sids["twilio-main"])["message_id"]
    theirs = only(inbox.api("twilio-other", "sms"), sids["twilio-other"])["message_id"]

    ours = canvas(inbox, "initialize", payload(**contact(f"+{phone}")))
    others = canvas(inbox, "initialize", payload(THEIRS, **contact(f"+{phone}")))

    assert [row["id"] for row in rows(ours)] == [f"msg:{mine}"]
    assert [row["id"] for row in rows(others)] == [f"msg:{theirs}"]
    for id_ in (theirs, 1, 2**53 - 1):
        for told in (
            {"component_id": f"msg:{id_}", "current_canvas": ours},
            {"component_id": "refresh", "current_canvas": {"stored_data": {"view": "message", "message": id_}}},
        ):
            refused = canvas(inbox, "submit", payload(**told))
            assert "This message is not recorded here." in texts(refused)
            assert sids["twilio-other"] not in json.dumps(refused)


def test_an_unknown_workspace_sees_nothing(inbox):
    for kind in ("initialize", "submit", "configure"):
        (told,) = [text for text in texts(canvas(inbox, kind, payload("stranger"))) if "not connected" in text]
        assert told


@pytest.mark.parametrize("kind", ["initialize", "submit", "configure"])
@pytest.mark.parametrize("signature", ["", "0" * 64, "é", hmac.new(b"guess", b"x", hashlib.sha256).hexdigest()])
def test_what_is_not_signed_is_refused_and_told_nothing(inbox, kind, signature):
    answer = post(inbox, kind, payload(), signature=signature)

    assert (answer.status_code, answer.json()) == (401, {"error": "invalid signature"})


def test_the_signature_is_over_the_bytes_that_came(inbox):
    body = json.dumps(payload(), indent=3).encode()
    signed = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()

    assert post(inbox, "initialize", body, signature=signed).status_code == 200
    assert post(inbox, "initialize", body + b" ", signature=signed).status_code == 401
    assert post(inbox, "initialize", body, signature=signed.upper()).status_code == 401
    assert post(inbox, "initialize", body, secret=OLD_SECRET).status_code == 200  # both secrets during rotation


def test_a_server_without_the_app_has_no_such_thing(service):
    assert post(service, "initialize", payload()).status_code == 404


def test_a_body_of_no_end_is_not_read(inbox):
    assert post(inbox, "initialize", b"[" * 600_000).status_code == 413


# Whatever comes


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"workspace_id": null}',
        b"[" * 20_000,
        b'"\xff"',
        b'{"workspace_id": {"a": 1}}',
    ],
)
def test_a_signed_request_that_cannot_be_read_is_answered_with_a_canvas(inbox, body):
    for kind in ("initialize", "submit", "configure"):
        answer = post(inbox, kind, body)
        assert answer.status_code == 200
        assert problems(kind, answer.content) == []


def test_everything_but_the_workspace_may_be_missing_or_of_another_kind(inbox):
    for told in (
        {"workspace_id": OURS},
        {"app_id": OURS},
        payload(contact=None, customer={"phone": "+1"}),
        payload(contact=[], conversation=7, context="x", current_canvas={"stored_data": [1]}),
        payload(component_id=7, current_canvas={"stored_data": {"message": "x", "before": "!", "older": 1.5}}),
        payload(component_id="msg:99999999999999999999999", contact={"phone": "not a number"}),
        payload(component_id="older", current_canvas={"stored_data": {"older": "AAAA"}}),
    ):
        for kind in ("initialize", "submit"):
            canvas(inbox, kind, told)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["workspace_id", "contact", "phone", "conversation", "id", "current_canvas", "stored_data", "message",
                 "before", "component_id", "context", "conversation_id"]
            ),
            inner,
            max_size=5,
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_reading_a_request_never_fails(told):
    asked = read(json.dumps(told).encode())

    assert asked is None or 0 < len(asked.workspace_id) <= 512


@given(st.binary(max_size=200))
def test_reading_any_bytes_never_fails(body):
    read(body)


def test_a_ledger_that_cannot_be_read_is_an_error_canvas_and_a_button_to_try_again(start_service, database_url):
    service = start_service(database_url, intercom=INTERCOM)
    told = payload(**contact(f"+{new_phone()}"))
    canvas(service, "initialize", told)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE current_status RENAME TO hidden")
        failed = canvas(service, "initialize", told)
        connection.execute("ALTER TABLE hidden RENAME TO current_status")

    assert [part["style"] for part in failed["content"]["components"] if part["type"] == "text"] == ["header", "error"]
    again = eventually(
        lambda: next((now for now in [click(service, "refresh", failed)] if "stored_data" in now), None),
        "the ledger can be read again",
    )
    assert any("No messages" in text for text in texts(again))


def test_99_of_100_canvases_come_within_300_milliseconds(inbox):
    phone = new_phone()
    ids = [sent_to(inbox, phone, "sent", "delivered", "read") for _ in range(3)]
    listed = json.dumps(payload(**contact(f"+{phone}"))).encode()
    opened = json.dumps(payload(component_id=f"msg:{ids[0]}", **contact(f"+{phone}"))).encode()

    def timed(number: int) -> float:
        began = perf_counter()
        kind, body = ("initialize", listed) if number % 2 else ("submit", opened)
        assert post(inbox, kind, body).status_code == 200
        return perf_counter() - began

    with ThreadPoolExecutor(4) as pool:
        seconds = sorted(pool.map(timed, range(200)))

    assert seconds[197] < 0.3

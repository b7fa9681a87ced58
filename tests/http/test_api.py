"""The native API: registering, handing off, correcting, reading and waiting."""

import itertools
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest

from tests.http.callbacks import (
    found,
    history,
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
from tests.plugins.service import Service

#: Every field of a message as shown.
MESSAGE_FIELDS = {
    "message_id", "account", "provider", "channel", "transport", "provider_account", "provider_message_id", "recipient",
    "recipient_user_id", "participant", "client_reference", "conversation", "metadata", "status", "status_detail",
    "status_message", "is_final", "keep_polling", "poll_after", "may_still_become", "closed", "queued_at", "sent_at",
    "delivered_at", "read_at", "failed_at", "deleted_at", "time_basis", "last_updated", "last_heard_at",
    "registered_at", "opened_at", "failure", "conflict", "conflict_claims", "corrections", "version", "status_url",
}  # fmt: skip

HISTORY_FIELDS = {
    "position", "version", "kind", "source", "provider_status", "claim", "recognised", "error_code", "error_text",
    "occurred_at", "occurred_at_believed", "received_at", "recorded_at", "verdict", "why", "skipped", "status_before",
    "status_after", "status_detail", "by", "event_id", "date_text", "participant", "evidence", "evidence_digest",
    "request_digest", "stream_id", "hash",
}  # fmt: skip


@pytest.fixture
def whatsapp(service):
    return service.api("meta-main", "whatsapp")


@pytest.fixture
def sms(service):
    return service.api("twilio-main", "sms")


def register(api: httpx.Client, channel: str = "whatsapp", *, key: str | None = None, **told: object) -> httpx.Response:
    headers = {"idempotency-key": key} if key else {}
    return api.post("/v1/messages", json={"channel": channel, **told}, headers=headers)


def registered(api: httpx.Client, channel: str = "whatsapp", **told: object) -> int:
    answer = register(api, channel, **told)
    assert answer.status_code == 201, answer.text
    return answer.json()["message_id"]


def shown(api: httpx.Client, message_id: int) -> dict:
    answer = api.get(f"/v1/messages/{message_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def handed_off(api: httpx.Client, message_id: int, **told: object) -> httpx.Response:
    return api.post(f"/v1/messages/{message_id}/handoff", json=told)


def corrected(api: httpx.Client, message_id: int, to: str, **told: object) -> httpx.Response:
    body = {"to": to, "by": "operator-1", "why": "The recipient answered.", **told}
    return api.post(f"/v1/messages/{message_id}/corrections", json=body)


# Registering


def test_registering_answers_with_an_id_that_can_be_read_at_once(service, whatsapp):
    answer = register(whatsapp)

    assert answer.status_code == 201
    told = answer.json()
    assert set(told) == {"message_id", "status", "status_url"}
    assert told["status"] == "UNKNOWN"
    assert told["status_url"] == f"{service.url}/v1/messages/{told['message_id']}" == answer.headers["location"]
    assert whatsapp.get(told["status_url"]).json()["message_id"] == told["message_id"]


def test_everything_the_sender_knows_is_shown(whatsapp):
    phone = new_phone()

    message = shown(
        whatsapp,
        registered(
            whatsapp,
            recipient=f"+{phone[:1]} {phone[1:4]}-{phone[4:]}",
            client_reference="order 42",
            queued_at=instant(0),
            conversation={"conversation_id": "c-1", "part_id": "p-1"},
            metadata={"campaign": "autumn", "empty": ""},
        ),
    )

    assert set(message) == MESSAGE_FIELDS
    assert message["recipient"] == f"+{phone}"
    assert message["client_reference"] == "order 42"
    assert message["conversation"] == {"conversation_id": "c-1", "part_id": "p-1"}
    assert message["metadata"] == {"campaign": "autumn", "empty": ""}
    assert (message["status"], message["queued_at"], message["sent_at"]) == ("UNKNOWN", instant(0), None)
    assert (message["is_final"], message["keep_polling"], message["poll_after"]) == (False, True, 10)
    assert (message["account"], message["provider"], message["channel"]) == ("meta-main", "meta", "whatsapp")


def test_an_sms_acknowledged_without_a_time_is_queued_and_others_are_sent(whatsapp, sms):
    assert shown(sms, registered(sms, "sms", provider_message_id=new_sid()))["status"] == "QUEUED"
    assert shown(whatsapp, registered(whatsapp, provider_message_id=new_wamid()))["status"] == "SENT"


@pytest.mark.parametrize(("word", "status"), [("queued", "QUEUED"), ("accepted", "QUEUED"), ("sent", "SENT")])
def test_the_providers_answer_to_the_send_call_counts(sms, word, status):
    message_id = registered(sms, "sms", provider_message_id=new_sid(), provider_status=word)

    assert shown(sms, message_id)["status"] == status


def test_a_sending_time_makes_it_sent(sms):
    message = shown(sms, registered(sms, "sms", provider_message_id=new_sid(), sent_at=instant(3)))

    assert (message["status"], message["sent_at"], message["time_basis"]["sent_at"]) == ("SENT", instant(3), "provider")


def test_a_local_failure_is_recordable_at_registration(whatsapp):
    message_id = registered(whatsapp, failure={"code": "E1", "text": "Phone number is missing."})

    message = shown(whatsapp, message_id)
    assert (message["status"], message["status_detail"], message["is_final"]) == ("FAILED", "failed", True)
    assert message["failure"]["text"] == "Phone number is missing."
    assert message["failure"]["category"] == "recipient"
    assert set(message["failure"]) == {
        "stage", "category", "code", "title", "text", "advice", "recognised", "retry", "kinds",
        "recipient_specific",
    }  # fmt: skip
    assert set(message["failure"]["retry"]) == {"class", "after_seconds", "after_seconds_max", "until"}


def test_a_message_registered_after_its_callbacks_is_the_same_message(service, whatsapp):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "delivered")))
    known = only(whatsapp, wamid)["message_id"]

    answer = register(whatsapp, provider_message_id=wamid, client_reference="late")

    assert (answer.json()["message_id"], answer.json()["status"]) == (known, "DELIVERED")
    assert shown(whatsapp, known)["client_reference"] == "late"
    assert shown(whatsapp, known)["status"] == "DELIVERED"


def test_a_message_registered_before_its_callbacks_is_the_same_message(service, whatsapp):
    wamid = new_wamid()
    message_id = registered(whatsapp, provider_message_id=wamid)

    send(service, meta(meta_status(wamid, "read")))

    assert [message_id] == [message["message_id"] for message in found(whatsapp, wamid)]
    assert shown(whatsapp, message_id)["status"] == "READ"


def test_the_same_registration_twice_adds_nothing(whatsapp):
    wamid = new_wamid()

    first, second = (register(whatsapp, provider_message_id=wamid, client_reference="a") for _ in range(2))

    assert first.json() == second.json()
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert len(history(whatsapp, first.json())) == 2  # the registration and the hand-off it tells of


def test_without_any_id_every_registration_is_another_message(whatsapp):
    assert registered(whatsapp, client_reference="same") != registered(whatsapp, client_reference="same")


# Idempotency


def test_the_same_idempotency_key_gives_the_same_answer(whatsapp):
    key = new_wamid()

    first, second = (register(whatsapp, key=key, client_reference="a") for _ in range(2))

    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert first.headers["location"] == second.headers["location"]
    assert second.headers["idempotent-replayed"] == "true"


def test_an_idempotency_key_with_another_body_is_refused(whatsapp):
    key = new_wamid()
    first = register(whatsapp, key=key, client_reference="a").json()

    answer = register(whatsapp, key=key, client_reference="b")

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert shown(whatsapp, first["message_id"])["client_reference"] == "a"


def test_an_idempotency_key_stands_for_another_message_once_it_has_run_out(service, whatsapp):
    key = new_wamid()
    first = register(whatsapp, key=key, client_reference="a").json()
    with psycopg.connect(service.database_url, autocommit=True) as connection:
        connection.execute("UPDATE idempotency_claims SET claimed_at = claimed_at - interval '25 hours'")

    second = register(whatsapp, key=key, client_reference="b").json()

    assert first["message_id"] != second["message_id"]
    assert shown(whatsapp, second["message_id"])["client_reference"] == "b"


def test_the_layout_of_the_body_does_not_matter_to_an_idempotency_key(whatsapp):
    headers = {"idempotency-key": new_wamid(), "content-type": "application/json"}

    bodies = [b'{"channel":"whatsapp","client_reference":"a"}', b'{ "client_reference": "a",\n "channel": "whatsapp" }']
    answers = [whatsapp.post("/v1/messages", content=body, headers=headers) for body in bodies]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()


def test_one_idempotency_key_used_at_once_makes_one_message(service, whatsapp):
    key, reference = new_wamid(), new_wamid()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: register(whatsapp, key=key, client_reference=reference), range(24)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["message_id"] for answer in answers}) == 1
    listed = whatsapp.get("/v1/messages", params={"client_reference": reference}).json()["items"]
    assert len(listed) == 1


def test_idempotency_keys_of_two_channels_do_not_meet(service):
    key = new_wamid()

    first = register(service.api("twilio-main", "sms"), "sms", key=key)
    second = register(service.api("twilio-main", "whatsapp"), "whatsapp", key=key)

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["message_id"] != second.json()["message_id"]


@pytest.mark.parametrize("key", ["a b", "x" * 256, "é"])
def test_an_unusable_idempotency_key_is_refused_by_name(whatsapp, key):
    headers = {"idempotency-key": key.encode("latin-1")}

    answer = whatsapp.post("/v1/messages", json={"channel": "whatsapp"}, headers=headers)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert key not in answer.text


# Handing off


def test_hand_off_links_the_message_to_callbacks_to_come(service, whatsapp):
    message_id, wamid = registered(whatsapp, client_reference="a"), new_wamid()

    answer = handed_off(whatsapp, message_id, provider_message_id=wamid, sent_at=instant(1))
    send(service, meta(meta_status(wamid, "delivered", 5)))

    assert answer.status_code == 200
    assert (answer.json()["message_id"], answer.json()["status"]) == (message_id, "SENT")
    message = shown(whatsapp, message_id)
    assert (message["status"], message["client_reference"]) == ("DELIVERED", "a")
    assert (message["sent_at"], message["delivered_at"]) == (instant(1), instant(5))


def test_hand_off_finds_the_callbacks_that_were_faster(service, whatsapp):
    message_id, wamid = registered(whatsapp, recipient="+12025550123"), new_wamid()
    send(service, meta(meta_status(wamid, "read", 2)))
    early = only(whatsapp, wamid)["message_id"]

    answer = handed_off(whatsapp, message_id, provider_message_id=wamid)

    assert (answer.json()["message_id"], answer.json()["status"]) == (message_id, "READ")
    both = [shown(whatsapp, either) for either in (message_id, early)]
    assert [message["status"] for message in both] == ["READ", "READ"]
    assert [message["message_id"] for message in both] == [message_id, early]


def test_a_linked_message_is_listed_once_under_the_id_the_sender_was_given(service, whatsapp):
    reference, wamid = new_wamid(), new_wamid()
    message_id = registered(whatsapp, client_reference=reference)
    send(service, meta(meta_status(wamid, "sent")))

    handed_off(whatsapp, message_id, provider_message_id=wamid)

    for parameters in ({"client_reference": reference}, {"provider_message_id": wamid}):
        listed = whatsapp.get("/v1/messages", params=parameters).json()["items"]
        assert [message["message_id"] for message in listed] == [message_id]


def test_the_history_of_a_linked_message_is_one(service, whatsapp):
    message_id, wamid = registered(whatsapp), new_wamid()
    handed_off(whatsapp, message_id, provider_message_id=wamid)
    send(service, meta(meta_status(wamid, "delivered", 5)))

    events = history(whatsapp, {"message_id": message_id})

    assert [event["kind"] for event in events] == ["registration", "link", "observation", "observation"]
    assert [event["source"] for event in events] == [None, None, "sender", "callback"]
    assert events[-1]["status_after"] == "DELIVERED"


def test_the_same_hand_off_twice_adds_nothing(whatsapp):
    message_id, wamid = registered(whatsapp), new_wamid()

    first, second = (handed_off(whatsapp, message_id, provider_message_id=wamid) for _ in range(2))

    assert (first.status_code, first.json()) == (second.status_code, second.json())


def test_a_second_hand_off_to_another_id_is_refused(whatsapp):
    message_id, wamid = registered(whatsapp), new_wamid()
    handed_off(whatsapp, message_id, provider_message_id=wamid)

    answer = handed_off(whatsapp, message_id, provider_message_id=new_wamid())

    assert (answer.status_code, answer.json()["code"]) == (409, "already_handed_off")
    assert shown(whatsapp, message_id)["provider_message_id"] == wamid


def test_two_hand_offs_at_once_to_two_ids_leave_one(whatsapp):
    message_id = registered(whatsapp)
    wamids = [new_wamid() for _ in range(8)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda wamid: handed_off(whatsapp, message_id, provider_message_id=wamid), wamids))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    winner = wamids[[answer.status_code for answer in answers].index(200)]
    assert shown(whatsapp, message_id)["provider_message_id"] == winner


def test_a_failed_hand_off_fails_the_message(whatsapp):
    message_id = registered(whatsapp)

    answer = handed_off(whatsapp, message_id, failure={"text": "connection refused"})

    assert (answer.status_code, answer.json()["status"]) == (200, "FAILED")
    assert answer.json()["failure"]["stage"] == "handoff"


@pytest.mark.parametrize("told", [{}, {"provider_message_id": "a", "failure": {"text": "b"}}])
def test_a_hand_off_tells_either_an_id_or_a_failure(whatsapp, told):
    answer = handed_off(whatsapp, registered(whatsapp), **told)

    assert answer.status_code == 422
    assert {error["field"] for error in answer.json()["errors"]} == {"provider_message_id", "failure"}


# Correcting


@pytest.fixture
def conflicting(service, whatsapp) -> int:
    """A message that was reported delivered, then failed."""
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "delivered", 0)))
    send(service, meta(meta_failure(wamid, 5)))
    return only(whatsapp, wamid)["message_id"]


def test_a_conflict_is_corrected_with_a_name_and_a_reason(whatsapp, conflicting):
    answer = corrected(whatsapp, conflicting, "failed", relied_on=[1])

    assert answer.status_code == 200
    message = answer.json()
    assert (message["status"], message["conflict"], message["corrections"]) == ("FAILED", "settled", 1)
    last = history(whatsapp, message)[-1]
    assert (last["kind"], last["by"], last["status_before"], last["status_after"]) == (
        "correction",
        "operator-1",
        "DELIVERED",
        "FAILED",
    )
    assert "The recipient answered." in last["why"]


def test_a_correction_may_confirm_what_is_shown(whatsapp, conflicting):
    message = corrected(whatsapp, conflicting, "delivered").json()

    assert (message["status"], message["conflict"], message["corrections"]) == ("DELIVERED", "settled", 0)


def test_only_an_open_conflict_can_be_corrected(whatsapp, conflicting):
    corrected(whatsapp, conflicting, "failed")

    again = corrected(whatsapp, conflicting, "delivered")
    unasked = corrected(whatsapp, registered(whatsapp), "delivered")

    assert [(answer.status_code, answer.json()["code"]) for answer in (again, unasked)] == [
        (409, "not_in_conflict")
    ] * 2
    assert shown(whatsapp, conflicting)["status"] == "FAILED"


def test_two_corrections_at_once_leave_one(whatsapp, conflicting):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda to: corrected(whatsapp, conflicting, to), ["failed", "delivered"] * 4))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert [event["kind"] for event in history(whatsapp, {"message_id": conflicting})].count("correction") == 1


def test_a_further_contradiction_opens_the_conflict_again(service, whatsapp, conflicting):
    message = corrected(whatsapp, conflicting, "failed").json()

    send(service, meta(meta_status(message["provider_message_id"], "read", 9)))

    assert shown(whatsapp, conflicting)["conflict"] == "open"
    assert shown(whatsapp, conflicting)["status"] == "FAILED"


# Reading


def test_an_answer_carries_its_validator_and_304_while_nothing_changes(service, whatsapp):
    wamid = new_wamid()
    path = f"/v1/messages/{registered(whatsapp, provider_message_id=wamid)}"
    tag = whatsapp.get(path).headers["etag"]

    same = whatsapp.get(path, headers={"if-none-match": tag})
    weak = whatsapp.get(path, headers={"if-none-match": f'"other", W/{tag}'})
    send(service, meta(meta_status(wamid, "delivered")))
    changed = whatsapp.get(path, headers={"if-none-match": tag})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    assert weak.status_code == 304
    assert (changed.status_code, changed.json()["status"]) == (200, "DELIVERED")
    assert changed.headers["etag"] != tag


def test_a_redelivery_does_not_change_the_validator(service, whatsapp):
    wamid = new_wamid()
    callback = meta(meta_status(wamid, "delivered"))
    send(service, callback)
    path = f"/v1/messages/{only(whatsapp, wamid)['message_id']}"
    tag = whatsapp.get(path).headers["etag"]

    send(service, callback)

    assert whatsapp.get(path, headers={"if-none-match": tag}).status_code == 304


def test_the_answer_to_a_change_carries_the_new_validator(whatsapp):
    message_id = registered(whatsapp)

    answer = handed_off(whatsapp, message_id, provider_message_id=new_wamid())

    known = {"if-none-match": answer.headers["etag"]}
    assert whatsapp.get(f"/v1/messages/{message_id}", headers=known).status_code == 304


def test_waiting_ends_when_something_changes(service, whatsapp):
    wamid = new_wamid()
    path = f"/v1/messages/{registered(whatsapp, provider_message_id=wamid)}"
    tag = whatsapp.get(path).headers["etag"]
    started = time.monotonic()
    asked = threading.Event()

    def wait() -> httpx.Response:
        asked.set()
        return whatsapp.get(path, headers={"prefer": "wait=15", "if-none-match": tag})

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        asked.wait()
        send(service, meta(meta_status(wamid, "delivered")))
        answer = waiting.result()

    assert (answer.status_code, answer.json()["status"]) == (200, "DELIVERED")
    assert answer.headers["preference-applied"] == "wait=15"
    assert time.monotonic() - started < 15


def test_waiting_without_a_validator_ends_when_the_message_is_final(service, whatsapp):
    wamid = new_wamid()
    path = f"/v1/messages/{registered(whatsapp, provider_message_id=wamid)}"

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(whatsapp.get, path, headers={"prefer": "respond-async, wait=15"})
        send(service, meta(meta_status(wamid, "delivered")))
        answer = waiting.result()

    assert (answer.status_code, answer.json()["is_final"]) == (200, True)


def test_waiting_in_vain_ends_after_the_time_asked_for(whatsapp):
    path = f"/v1/messages/{registered(whatsapp)}"
    tag = whatsapp.get(path).headers["etag"]
    started = time.monotonic()

    answer = whatsapp.get(path, headers={"prefer": "wait=1", "if-none-match": tag})

    assert answer.status_code == 304
    assert time.monotonic() - started >= 1


def test_a_final_message_is_not_waited_for(service, whatsapp):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "delivered")))

    answer = whatsapp.get(
        f"/v1/messages/{only(whatsapp, wamid)['message_id']}", headers={"prefer": "wait=30"}, timeout=10
    )

    assert answer.json()["status"] == "DELIVERED"


@pytest.mark.parametrize(
    ("status", "channel", "expected"),
    [
        ("sent", "whatsapp", (False, True, 5, ["DELIVERED", "READ", "DELETED", "FAILED"])),
        ("delivered", "whatsapp", (True, False, None, ["READ", "DELETED"])),
        ("read", "whatsapp", (True, False, None, ["DELETED"])),
        ("deleted", "whatsapp", (True, False, None, [])),
        ("delivered", "sms", (True, False, None, [])),
        ("queued", "sms", (False, True, 5, ["SENT", "DELIVERED", "READ", "DELETED", "FAILED"])),
        ("undelivered", "sms", (True, False, None, [])),
    ],
)
def test_a_reader_is_told_whether_to_ask_again(service, status, channel, expected):
    if channel == "sms":
        id_, api = new_sid(), service.api("twilio-main", "sms")
        send(service, twilio(id_, status))
    else:
        id_, api = new_wamid(), service.api("meta-main", "whatsapp")
        send(service, meta(meta_status(id_, status)))

    message = only(api, id_)

    told = (message["is_final"], message["keep_polling"], message["poll_after"], message["may_still_become"])
    assert expected == told


def test_a_failure_is_explained_beside_the_providers_own_words(service, sms):
    sid = new_sid()
    send(service, twilio(sid, "undelivered", ErrorCode="30003"))

    message = only(sms, sid)

    assert (message["status"], message["status_detail"]) == ("FAILED", "undelivered")
    assert (message["failure"]["code"], message["failure"]["category"]) == ("30003", "recipient")
    assert message["failure"]["recognised"] is True
    assert message["failure"]["kinds"] == ["undelivered"]
    assert all(message["failure"][field] for field in ("title", "text", "advice", "stage"))


def test_an_implied_time_is_marked(service, whatsapp):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "read", 7)))

    message = only(whatsapp, wamid)

    assert message["delivered_at"] == message["sent_at"] == message["read_at"] == instant(7)
    assert message["time_basis"] == {"sent_at": "implied", "delivered_at": "implied", "read_at": "provider"}


# History


def test_history_tells_everything_about_every_event(service, whatsapp):
    wamid = new_wamid()
    send(service, meta(meta_status(wamid, "read", 7)))
    send(service, meta(meta_status(wamid, "sent", 3)))
    send(service, meta(meta_failure(wamid, 9)))

    message = only(whatsapp, wamid)
    events = history(whatsapp, message)

    assert [set(event) for event in events] == [HISTORY_FIELDS] * 3
    assert [event["verdict"] for event in events] == ["advance", "late", "conflict"]
    assert [event["status_after"] for event in events] == ["READ"] * 3
    assert [event["version"] for event in events] == [1, 2, 3]
    assert [event["error_code"] for event in events] == [None, None, "131026"]
    assert events[-1]["error_text"] == "The number is not on WhatsApp."
    assert events[0]["skipped"] == ["SENT", "DELIVERED"]
    assert all(event["why"] for event in events)
    assert all(re.fullmatch("[0-9a-f]{64}", event["hash"]) for event in events)
    assert len({event["hash"] for event in events}) == 3
    assert [event["position"] for event in events] == sorted(event["position"] for event in events)


def test_as_of_shows_what_was_on_record_then(service, whatsapp):
    wamid = new_wamid()
    for status in ("sent", "delivered", "read"):
        send(service, meta(meta_status(wamid, status)))
    message = only(whatsapp, wamid)
    events = history(whatsapp, message)

    for number, event in enumerate(events, start=1):
        then = whatsapp.get(
            f"/v1/messages/{message['message_id']}/history", params={"as_of": event["recorded_at"]}
        ).json()
        assert (then["status"], then["items"]) == (event["status_after"], events[:number])

    before = whatsapp.get(
        f"/v1/messages/{message['message_id']}/history", params={"as_of": "2020-01-01T00:00:00+02:00"}
    ).json()
    assert (before["status"], before["items"], before["next_cursor"]) == ("UNKNOWN", [], None)


def test_history_pages_without_loss(service, whatsapp):
    wamid = new_wamid()
    for second in range(7):
        send(service, meta(meta_status(wamid, "delivered", second)))
    message = only(whatsapp, wamid)
    pages, parameters = [], {"limit": "3"}

    for _ in range(10):
        page = whatsapp.get(f"/v1/messages/{message['message_id']}/history", params=parameters).json()
        pages.append(page["items"])
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]

    assert [len(page) for page in pages] == [3, 3, 1]
    assert list(itertools.chain(*pages)) == history(whatsapp, message)


# Keys


def test_a_key_may_come_as_a_bearer_token(service):
    _, secret = service.new_key("meta-main", "whatsapp")

    for scheme in ("Bearer", "bearer"):
        answer = service.client().get("/v1/messages", headers={"authorization": f"{scheme} {secret}"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "key_missing"),
        ({"x-octopods-auth": ""}, "key_missing"),
        ({"authorization": "Basic abc"}, "key_missing"),
        ({"authorization": "Bearer"}, "key_missing"),
        ({"x-octopods-auth": "slk_unknown"}, "key_unknown"),
        ({"authorization": "Bearer slk_unknown"}, "key_unknown"),
        ({"x-octopods-auth": b"\xff\xfe"}, "key_unknown"),
        ({"x-octopods-auth": "x" * 10_000}, "key_unknown"),
    ],
)
def test_a_missing_or_wrong_key_is_refused(service, headers, code):
    answer = service.client().get("/v1/messages", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_rotated_key_is_told_so_and_the_new_one_works_at_once(service: Service):
    key, old = service.new_key("meta-main", "whatsapp")
    assert service.client(old).get("/v1/messages").status_code == 200

    _, new = service.parts.keys.rotate(key.id)

    answer = service.client(old).get("/v1/messages")
    assert (answer.status_code, answer.json()["code"]) == (401, "key_deprecated")
    assert "Deprecated API key." in answer.json()["detail"]
    assert service.client(new).get("/v1/messages").status_code == 200


def test_a_revoked_key_is_told_so(service: Service):
    key, secret = service.new_key("meta-main", "whatsapp")

    service.parts.keys.revoke(key.id)

    assert service.client(secret).get("/v1/messages").json()["code"] == "key_deprecated"

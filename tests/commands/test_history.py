"""`history` replays a message, `correct` decides its conflict."""

from datetime import datetime, timedelta

import pytest

from tests.http.callbacks import history, instant, meta, meta_failure, meta_status, new_wamid, only, send


@pytest.fixture(scope="module")
def ledger_service(start_module_service, new_database):
    return start_module_service(new_database())


@pytest.fixture
def environ(ledger_service):
    """Commands here look at what a running server recorded."""
    return {name: value for name, value in ledger_service.environ.items() if name.startswith("LEDGER_")}


@pytest.fixture
def api(ledger_service):
    return ledger_service.api()


@pytest.fixture
def read(ledger_service, api):
    """A message that was read, as shown."""
    wamid = new_wamid()
    for second, status in enumerate(("sent", "delivered", "read")):
        send(ledger_service, meta(meta_status(wamid, status, second)))
    return only(api, wamid)


@pytest.fixture
def conflicting(ledger_service, api):
    wamid = new_wamid()
    send(ledger_service, meta(meta_status(wamid, "delivered", 0), meta_failure(wamid, 5)))
    return only(api, wamid)


def test_history_as_json_is_what_the_api_answers(run, api, read):
    ended = run("history", read["message_id"], "--json")

    assert ended.code == 0
    assert ended.json == {
        "message_id": read["message_id"],
        "as_of": None,
        "clock": "recorded",
        "status": "READ",
        "items": history(api, read),
        "next_cursor": None,
    }


def test_history_as_of_rewinds(run, api, read):
    events = history(api, read)

    for number, event in enumerate(events, start=1):
        then = run("history", read["message_id"], "--as-of", event["recorded_at"], "--json").json
        assert (then["status"], then["items"], then["as_of"]) == (
            event["status_after"],
            events[:number],
            event["recorded_at"],
        )


def test_history_as_of_before_everything_is_empty(run, read):
    ended = run("history", read["message_id"], "--as-of", "2020-01-01T00:00:00+01:00", "--json")

    assert (ended.code, ended.json["status"], ended.json["items"]) == (0, "UNKNOWN", [])
    assert ended.json["as_of"] == "2019-12-31T23:00:00Z"


@pytest.mark.parametrize("clock", ["recorded", "occurred"])
def test_history_as_of_any_time_to_come_is_everything(run, api, read, clock):
    ended = run("history", read["message_id"], "--as-of", "9999-12-31t23:59:59z", "--clock", clock, "--json")

    assert (ended.json["status"], ended.json["items"]) == ("READ", history(api, read))


@pytest.mark.parametrize("text", ["yesterday", "2026-11-21T12:00:00", "0001-01-01T00:00:00+14:00", ""])
def test_history_as_of_no_time_is_bad_usage(run, read, text):
    ended = run("history", read["message_id"], "--as-of", text)

    assert ended.code == 2
    assert "--as-of: must be an RFC 3339 time with an offset" in ended.err


def test_history_as_of_now_is_everything(run, read):
    later = datetime.fromisoformat(read["last_heard_at"]) + timedelta(minutes=1)

    assert run("history", read["message_id"], "--as-of", later.isoformat(), "--json").json["status"] == "READ"


def test_history_is_told_to_people(run, api, read):
    ended = run("history", read["message_id"])

    lines = ended.out.splitlines()
    assert lines[0] == f"Message {read['message_id']}: READ, 3 events"
    for event in history(api, read):
        assert f"hash {event['hash']}" in ended.out
        assert f"{event['status_before']} -> {event['status_after']}" in ended.out
        assert f"callback: {event['provider_status']}" in ended.out
        assert event["evidence"] in ended.out
        assert f"happened {event['occurred_at']}" in ended.out


def test_history_tells_people_about_failures_and_corrections(run, conflicting):
    run("correct", conflicting["message_id"], "--to", "failed", "--by", "operator-1", "--why", "The recipient called.")

    told = run("history", conflicting["message_id"]).out

    assert "failed [131026]" in told
    assert "The number is not on WhatsApp." in told
    assert "correction: The conflict was decided in favour of failed. The recipient called." in told


def test_history_tells_people_of_a_time_that_is_not_believed(run, ledger_service, api):
    wamid = new_wamid()
    send(ledger_service, meta(meta_status(wamid, "delivered", -90 * 86_400), meta_status(wamid, "read", None)))

    told = run("history", only(api, wamid)["message_id"]).out

    assert f"happened {instant(-90 * 86_400)} (not believed)" in told
    assert "happened no provider time" in told


def test_history_follows_a_hand_off(run, api, ledger_service):
    message_id = api.post("/v1/messages", json={"channel": "whatsapp"}).json()["message_id"]
    wamid = new_wamid()
    api.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": wamid})
    send(ledger_service, meta(meta_status(wamid, "read")))

    told = run("history", message_id, "--json").json

    assert [event["kind"] for event in told["items"]] == ["registration", "link", "observation", "observation"]
    assert (told["message_id"], told["status"]) == (message_id, "READ")


@pytest.mark.parametrize("message_id", ["0", "1", "-1", "9007199254740991", str(1 << 70)])
def test_an_unknown_message_is_bad_usage(run, message_id):
    for ended in (
        run("history", message_id),
        run("correct", message_id, "--to", "failed", "--by", "a", "--why", "b"),
    ):
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.count("\n") >= 1


def test_a_conflict_is_corrected(run, api, conflicting):
    ended = run(
        "correct", conflicting["message_id"], "--to", "failed", "--by", "operator-1", "--why", "Said so.", "--json"
    )

    assert (ended.code, ended.json) == (0, {"message_id": conflicting["message_id"], "status": "FAILED"})
    shown = api.get(f"/v1/messages/{conflicting['message_id']}").json()
    assert (shown["status"], shown["conflict"], shown["corrections"]) == ("FAILED", "settled", 1)
    last = history(api, conflicting)[-1]
    assert (last["kind"], last["by"]) == ("correction", "operator-1")
    assert "Said so." in last["why"]


def test_a_correction_speaks_to_people(run, conflicting):
    ended = run("correct", conflicting["message_id"], "--to", "delivered", "--by", "a", "--why", "b")

    assert ended.out == f"Message {conflicting['message_id']} is DELIVERED\n"


def test_without_an_open_conflict_there_is_nothing_to_correct(run, read, conflicting):
    run("correct", conflicting["message_id"], "--to", "failed", "--by", "a", "--why", "b")

    for message_id in (read["message_id"], conflicting["message_id"]):
        ended = run("correct", message_id, "--to", "delivered", "--by", "a", "--why", "b")
        assert (ended.code, ended.out) == (1, "")
        assert ended.errors == ["status-ledger: the message has no open conflict"]

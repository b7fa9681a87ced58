"""Reports over HTTP: what callbacks led to, for the key that asks, in the form it asks for."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pyarrow.parquet
import pytest

from projections import generations
from tests.http.callbacks import meta, meta_failure, meta_signed, meta_status, new_phone, new_wamid, send
from tests.plugins.service import eventually

REPORTS = ("delivery", "failures", "latency", "stuck", "providers")


@pytest.fixture(scope="module")
def service(start_module_service: Any, new_database: Any) -> Any:
    """A server of these tests' own: they count."""
    return start_module_service(new_database())


@pytest.fixture(scope="module")
def api(service: Any) -> Any:
    return service.api()


@pytest.fixture(scope="module")
def played(service: Any, api: Any) -> dict[str, Any]:
    """Messages of every fate, played at the service once; and a forged request."""
    delivered, read, silent = new_wamid(), new_wamid(), new_wamid()
    phone = new_phone()
    failed = [new_wamid(phone) for _ in range(3)]
    send(service, meta(meta_status(delivered, at=0), meta_status(delivered, "delivered", at=2)))
    send(service, meta(meta_status(read, at=0), meta_status(read, "read", at=60), meta_status(silent, at=0)))
    for wamid in failed:
        send(service, meta({**meta_failure(wamid, at=1), "recipient_id": phone}))
    send(service, meta(meta_status(new_wamid(), "levitating", at=0)))
    assert send(service, meta_signed(b"{}", secret="somebody else's")).status_code == 401
    eventually(lambda: api.get("/v1/reports/delivery").status_code == 200, "the first generation is made")
    eventually(lambda: sum(item["messages"] for item in get(api, "delivery")["items"]) >= 7, "the feed follows")
    return {"failed": failed, "phone": phone}


def get(api: Any, name: str, **parameters: str) -> dict[str, Any]:
    answer = api.get(f"/v1/reports/{name}", params=parameters)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_every_answer_tells_the_positions_it_was_made_at(api, played):
    for name in REPORTS:
        told = get(api, name)
        assert datetime.fromisoformat(told["computed_at"]).tzinfo is not None
        (position,) = told["positions"].values()
        assert 0 < position["position"] <= position["head"]


def test_a_funnel_counts_messages_by_what_became_of_them(api, played):
    (funnel,) = get(api, "delivery")["items"]

    assert funnel["messages"] >= funnel["sent"] >= funnel["delivered"] >= funnel["read"] >= 1
    assert funnel["messages"] == funnel["delivered"] + funnel["failed"] + funnel["undelivered"] + funnel["pending"]
    decided = funnel["delivered"] + funnel["failed"] + funnel["undelivered"]
    assert funnel["delivery_rate"] == pytest.approx(funnel["delivered"] / decided, abs=1e-6)


@pytest.mark.parametrize("groups", ["provider", "country", "hour", "day", "provider,country,day", "account,channel"])
def test_groups_add_up_to_the_whole(api, played, groups):
    (whole,) = get(api, "delivery")["items"]

    items = get(api, "delivery", group_by=groups, time_zone="Europe/Paris")["items"]

    assert sum(item["messages"] for item in items) == whole["messages"]
    assert all(list(item["group"]) == groups.split(",") for item in items)


def test_days_and_hours_are_those_of_the_time_zone(api, played):
    (day,) = {item["group"]["day"] for item in get(api, "delivery", group_by="day", time_zone="Asia/Tokyo")["items"]}
    hours = get(api, "delivery", group_by="hour", time_zone="Asia/Tokyo")["items"]

    assert {item["group"]["hour"][:10] for item in hours} == {day}
    assert all(item["group"]["hour"].endswith(":00:00+09:00") for item in hours)


def test_failures_come_with_advice_share_and_samples(api, played):
    failures = get(api, "failures")["items"]

    told = next(item for item in failures if item["code"] == "131026")
    assert told["failures"] >= 3
    assert (told["provider"], told["stage"], told["recognised"], told["is_new"]) == ("meta", "provider", True, True)
    assert 0 < told["share"] <= 1
    assert told["advice"]
    assert told["recipient_specific"] >= 3
    assert len(told["samples"]) == 3
    message = api.get(f"/v1/messages/{told['samples'][0]}").json()
    assert (message["status"], message["failure"]["code"]) == ("FAILED", "131026")


def test_a_failed_message_tells_that_errors_recur_for_its_recipient(api, played):
    (message,) = api.get("/v1/messages", params={"provider_message_id": played["failed"][0]}).json()["items"]

    assert message["failure"]["recipient_specific"] is None
    assert api.get(f"/v1/messages/{message['message_id']}").json()["failure"]["recipient_specific"] is True


def test_latency_has_every_measure(api, played):
    measures = {item["measure"]: item for item in get(api, "latency")["items"]}

    assert measures["sent_to_delivered"]["p50"] == pytest.approx(2_000, rel=0.02)
    assert measures["callback_delay"]["p99"] > 3_000_000  # the provider's clock of these tests is an hour behind
    assert all(item["skewed"] >= 0 for item in measures.values())


def test_what_is_silent_for_too_long_is_stuck(start_service, new_database):
    accounts = {
        "meta-main": {"provider": "meta", "channel": "whatsapp", "secrets": ["meta-secret-new"], "expected_seconds": 60}
    }
    service = start_service(new_database(), accounts=accounts)
    api = service.api()
    send(service, meta(meta_status(new_wamid(), at=0)))
    eventually(lambda: api.get("/v1/reports/delivery").status_code == 200, "the first generation is made")
    fresh = eventually(lambda: get(api, "stuck") if get(api, "delivery")["items"] else None, "the feed follows")
    assert (fresh["items"], fresh["groups"]) == ([], [])
    with service.parts.ledger.connect() as connection:  # two days go by: the table is moved into the past
        connection.execute("UPDATE silence_1 SET slot = slot - interval '2 days'")
    (group,) = get(api, "stuck")["groups"]
    assert (group["status"], group["messages"], group["closed"]) == ("SENT", 1, False)
    assert (group["expected_seconds"], group["expected_basis"]) == (60, "configured")
    assert group["ages"]["1d_to_3d"] == 1


def test_providers_tell_refused_signatures_and_the_last_callback(api, played):
    def counted() -> dict[str, Any] | None:
        (told,) = get(api, "providers")["items"]
        return told if told["not_authentic"] and told["callbacks"] else None

    told = eventually(counted, "requests are handed over", 30)
    assert (told["account"], told["provider"]) == ("meta-main", "meta")
    assert told["silent_seconds"] >= 0
    assert told["unrecognised"] >= 1
    assert told["delay_p50"] > 3_000_000


def test_what_needs_attention_is_listed_until_it_is_resolved(api, played):
    items = {item["kind"]: item for item in api.get("/v1/attention").json()["items"]}
    assert {"unrecognised_status", "recurring_recipient"} <= set(items)
    item = items["recurring_recipient"]
    assert item["count"] >= 3
    assert played["phone"] not in json.dumps(items)

    told = {"item": item["item"], "seen_through": item["last_seen"], "by": "support-1", "why": "wrong number"}
    answer = api.post("/v1/attention/resolutions", json=told)

    assert answer.status_code == 200, answer.text
    assert item["item"] not in [left["item"] for left in api.get("/v1/attention").json()["items"]]


def test_a_resolved_item_shows_again_when_it_happens_again(service, api, played):
    def unknown() -> dict[str, Any] | None:
        listed = api.get("/v1/attention").json()["items"]
        return next((item for item in listed if item["kind"] == "unrecognised_status"), None)

    item = unknown()
    assert item is not None
    told = {"item": item["item"], "seen_through": item["last_seen"], "by": "engineer-1", "why": "asked the provider"}
    assert api.post("/v1/attention/resolutions", json=told).status_code == 200
    assert unknown() is None
    send(service, meta(meta_status(new_wamid(), "levitating", at=5)))
    again = eventually(unknown, "it shows again")
    assert again["count"] == item["count"] + 1


def test_nobody_resolves_what_is_not_there_or_not_theirs(service, api, played):
    told = {"item": "conflict:1", "seen_through": "2026-11-21T12:00:00Z", "by": "a", "why": "b"}
    assert api.post("/v1/attention/resolutions", json=told).json()["code"] == "not_found"
    for broken, field in (({"by": ""}, "by"), ({"why": "x" * 2001}, "why"), ({"seen_through": "now"}, "seen_through")):
        answer = api.post("/v1/attention/resolutions", json={**told, **broken})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)


def test_a_key_sees_its_own_account_and_channel_only(service, played):
    other = service.api("meta-other")

    assert get(other, "delivery")["items"] == []
    assert get(other, "failures")["items"] == []
    assert get(other, "latency")["items"] == []
    assert get(other, "stuck")["items"] == []
    (health,) = get(other, "providers")["items"]
    assert (health["account"], health["callbacks"], health["unrecognised"]) == ("meta-other", 0, 0)
    assert (health["open_conflicts"], health["delay_p50"]) == (0, None)
    assert [item for item in other.get("/v1/attention").json()["items"] if item["kind"] != "parked_event"] == []


def test_what_needs_attention_is_told_its_own_account_and_channel_only(start_service, new_database):
    service = start_service(new_database())
    api, contradicted, phone = service.api("meta-main", "whatsapp"), new_wamid(), new_phone()
    send(service, meta(meta_status(contradicted, "delivered", at=1), meta_failure(contradicted, at=2)))
    send(service, meta(meta_status(new_wamid(), "levitating"), meta_failure(new_wamid(), code=987_654_321)))
    send(service, meta({"status": "sent"}))  # of no message
    send(service, meta(*[{**meta_failure(new_wamid(phone)), "recipient_id": phone} for _ in range(3)]))
    kinds = {"conflict", "unrecognised_status", "unrecognised_code", "unreadable", "recurring_recipient"}

    eventually(lambda: kinds == kinds_of_attention(api), "every kind of item is there")

    assert kinds_of_attention(service.api("meta-other", "whatsapp")) == set()
    assert kinds_of_attention(service.api("meta-main", "sms")) == {"unreadable"}, "what cannot be read has no channel"


def kinds_of_attention(api: Any) -> set[str]:
    return {item["kind"] for item in api.get("/v1/attention").json().get("items", ())}


def test_reports_that_have_not_been_built_are_answered_503(start_service, new_database):
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (generations._LOCK,))  # so that no generation can be made
        service = start_service(url)
        api = service.api()
        for _ in range(200):
            answer = api.get("/v1/reports/delivery")
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) >= 1
    eventually(lambda: api.get("/v1/reports/delivery").status_code == 200, "the first generation is made")


def test_a_report_over_an_empty_ledger_is_an_empty_report(start_service, new_database):
    service = start_service(new_database())
    api = service.api()
    eventually(lambda: api.get("/v1/reports/delivery").status_code == 200, "the first generation is made")

    for name in ("delivery", "failures", "latency", "stuck"):
        assert get(api, name, **({} if name == "stuck" else {"group_by": "day"}))["items"] == []


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-11-21T12:00:00"}, "until"),
        ({"since": "1999-01-01T00:00:00Z"}, "since"),
        ({"until": "9999-12-31T23:59:59Z"}, "until"),
        ({"since": "2026-11-21T12:00:00Z", "until": "2026-11-20T12:00:00Z"}, "until"),
        ({"group_by": "recipient"}, "group_by"),
        ({"group_by": "day,day"}, "group_by"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../../etc/passwd"}, "time_zone"),
        ({"time_zone": "\x00"}, "time_zone"),
        ({"country": "Francia"}, "country"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_a_bad_parameter_is_refused_by_name(api, parameters, field):
    for name in ("delivery", "failures", "latency"):
        answer = api.get(f"/v1/reports/{name}", params=parameters)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")
        assert answer.json()["errors"][0]["field"] == field


def test_a_range_counts_the_hours_it_touches(api, played):
    now = datetime.now(UTC)
    told = get(api, "delivery", since=now.isoformat(), until=(now + timedelta(seconds=1)).isoformat())

    assert told["since"] == now.replace(minute=0, second=0, microsecond=0).isoformat().replace("+00:00", "Z")
    assert told["items"][0]["messages"] >= 1
    past = get(api, "delivery", since="2020-01-01T00:00:00Z", until="2020-01-02T00:00:00Z")
    assert past["items"] == []


# Forms ----------------------------------------------------------------------------------------------------------------


def test_csv_has_a_row_a_group(api, played):
    answer = api.get("/v1/reports/delivery", params={"group_by": "country"}, headers={"accept": "text/csv"})

    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["ledger-positions"].startswith("0=")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sum(int(row["messages"]) for row in rows) == get(api, "delivery")["items"][0]["messages"]
    assert "country" in rows[0]


def test_json_lines_have_an_object_a_group(api, played):
    answer = api.get("/v1/reports/failures", headers={"accept": "application/x-ndjson"})

    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["code"] for row in rows] == [item["code"] for item in get(api, "failures")["items"]]
    assert "retry.class" in rows[0]


def test_parquet_is_a_table_with_types(api, played):
    answer = api.get("/v1/reports/delivery", headers={"accept": "application/vnd.apache.parquet"})

    table = pyarrow.parquet.read_table(io.BytesIO(answer.content))
    assert table.column("messages").to_pylist() == [get(api, "delivery")["items"][0]["messages"]]
    assert str(table.schema.field("delivery_rate").type) == "double"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.5, application/json;q=0.1", "text/csv"),
        ("application/xml, */*;q=0.1", "application/json"),
    ],
)
def test_the_form_is_negotiated(api, played, accept, media_type):
    answer = api.get("/v1/reports/delivery", headers={"accept": accept})

    assert answer.headers["content-type"].startswith(media_type)


@pytest.mark.parametrize("accept", ["application/xml", "text/csv;q=0", "image/png, text/html"])
def test_a_form_that_there_is_not_is_refused(api, accept):
    answer = api.get("/v1/reports/delivery", headers={"accept": accept})

    assert (answer.status_code, answer.json()["code"]) == (406, "not_acceptable")

"""Endpoints over the API: made, changed, rotated, listed, kept apart from other keys."""

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from ledger.http import endpoint_routes
from ledger.http.endpoints import ENDPOINTS_MAX, SECRETS_MAX, Endpoints
from tests.http.test_openapi import described
from tests.plugins.service import Service

URL = "https://hooks.example.com/ledger"
SECRET = "whsec_" + b64encode(bytes(32)).decode()


@pytest.fixture
def api(service: Service) -> Iterator[httpx.Client]:
    """A client whose account and channel have no endpoints when the test begins, nor when it ends."""
    client = service.api("meta-main", "whatsapp")
    yield client
    for each in client.get("/v1/webhooks").json()["items"]:
        client.delete(f"/v1/webhooks/{each['id']}")


def make(api: httpx.Client, **told: Any) -> dict[str, Any]:
    answer = api.post("/v1/webhooks", json={"url": URL, **told})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_endpoint_is_made_with_a_secret_that_is_shown_once(api: httpx.Client) -> None:
    answer = api.post("/v1/webhooks", json={"url": URL, "description": "orders", "statuses": ["FAILED", "DELIVERED"]})

    made = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/v1/webhooks/{made['id']}"
    assert made["secret"].startswith("whsec_")
    assert (made["url"], made["description"], made["statuses"]) == (URL, "orders", ["FAILED", "DELIVERED"])
    assert (made["account"], made["channel"], made["enabled"]) == ("meta-main", "whatsapp", True)
    again = api.get(f"/v1/webhooks/{made['id']}")
    assert made["secret"] not in again.text
    assert again.json()["deliveries"] == {"pending": 0, "delivered": 0, "parked": 0, "held": 0}
    assert made["secret"] not in api.get("/v1/webhooks").text


def test_an_endpoint_may_bring_its_own_secret(api: httpx.Client) -> None:
    assert make(api, secret=SECRET)["secret"] == SECRET


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({}, "url"),
        ({"url": "http://hooks.example.com/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": "https://user:hunter2@example.com/"}, "url"),
        ({"url": URL, "statuses": []}, "statuses"),
        ({"url": URL, "statuses": ["GONE"]}, "statuses[0]"),
        ({"url": URL, "secret": "whsec_short"}, "secret"),
        ({"url": URL, "colour": "red"}, "colour"),
        ({"url": 7}, "url"),
    ],
)
def test_what_is_wrong_with_an_endpoint_is_named_and_not_repeated(
    api: httpx.Client, told: dict[str, Any], field: str
) -> None:
    answer = api.post("/v1/webhooks", json=told)

    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert "hunter2" not in answer.text
    assert "short" not in answer.text
    assert api.get("/v1/webhooks").json()["items"] == []


def test_an_endpoint_is_changed_field_by_field(api: httpx.Client) -> None:
    made = make(api, description="orders", statuses=["FAILED"])
    path = f"/v1/webhooks/{made['id']}"

    assert api.patch(path, json={"url": f"{URL}/new"}).json()["url"] == f"{URL}/new"
    assert api.patch(path, json={"description": ""}).json()["description"] == ""
    changed = api.patch(path, json={"statuses": None}).json()

    assert (changed["url"], changed["description"], changed["statuses"]) == (f"{URL}/new", "", None)
    assert api.patch(path, json={"url": "https://192.168.1.1/"}).status_code == 422
    assert api.get(path).json()["url"] == f"{URL}/new"


def test_an_endpoint_is_disabled_and_enabled_on_request_with_notices(api: httpx.Client) -> None:
    path = f"/v1/webhooks/{make(api)['id']}"

    disabled = api.patch(path, json={"enabled": False}).json()
    assert (disabled["enabled"], disabled["disabled_reason"]) == (False, "requested")
    assert api.post(f"{path}/recover", json={"since": _ago(60)}).json()["code"] == "endpoint_disabled"
    assert api.patch(path, json={"enabled": True}).json()["enabled"] is True

    notices = api.get(f"{path}/notices").json()["items"]
    assert [each["what"] for each in notices] == ["enabled", "disabled"]
    page = api.get(f"{path}/notices", params={"limit": 1}).json()
    rest = api.get(f"{path}/notices", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [each["what"] for each in page["items"] + rest["items"]] == ["enabled", "disabled"]
    assert rest["next_cursor"] is None


def test_a_secret_is_replaced_while_the_old_one_goes_on_for_a_while(api: httpx.Client) -> None:
    made = make(api)
    path = f"/v1/webhooks/{made['id']}/secrets"

    added = api.post(path, json={"keep_old_seconds": 3_600})

    assert added.status_code == 201
    told = added.json()
    assert told["secret"] != made["secret"]
    assert [each["until"] is None for each in told["secrets"]] == [True, False]
    ends = datetime.fromisoformat(told["secrets"][1]["until"])
    assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1)
    at_once = api.post(path, json={"keep_old_seconds": 0, "secret": SECRET}).json()
    assert (at_once["secret"], len(at_once["secrets"])) == (SECRET, 1)


def test_no_more_than_a_few_secrets_sign_at_once(api: httpx.Client) -> None:
    path = f"/v1/webhooks/{make(api)['id']}/secrets"

    for _ in range(SECRETS_MAX + 2):
        told = api.post(path, json={}).json()

    assert len(told["secrets"]) == SECRETS_MAX


def test_a_deleted_endpoint_is_gone(api: httpx.Client) -> None:
    path = f"/v1/webhooks/{make(api)['id']}"

    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404
    assert api.delete(path).status_code == 404


def test_there_is_a_limit_to_endpoints(api: httpx.Client) -> None:
    for _ in range(ENDPOINTS_MAX):
        make(api)

    answer = api.post("/v1/webhooks", json={"url": URL})

    assert (answer.status_code, answer.json()["code"]) == (409, "too_many_endpoints")


def test_an_endpoint_does_not_exist_for_keys_of_other_accounts_and_channels(
    api: httpx.Client, service: Service
) -> None:
    id_ = make(api)["id"]
    others = [service.api("meta-other", "whatsapp"), service.api("twilio-main", "whatsapp")]

    for other in others:
        assert other.get("/v1/webhooks").json()["items"] == []
        for method, rest, body in [
            ("GET", "", None),
            ("PATCH", "", {"enabled": False}),
            ("DELETE", "", None),
            ("POST", "/secrets", {}),
            ("GET", "/notices", None),
            ("GET", "/deliveries", None),
            ("GET", "/deliveries/0-1", None),
            ("POST", "/deliveries/0-1/resend", {}),
            ("POST", "/recover", {"since": _ago(60)}),
        ]:
            answer = other.request(method, f"/v1/webhooks/{id_}{rest}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, rest)
    assert api.get(f"/v1/webhooks/{id_}").json()["enabled"] is True


@pytest.mark.parametrize("id_", ["1", "wh_1", "wh_zzzzzzzzzzzzzzzz", "wh_0000000000000000", "%00"])
def test_what_is_no_endpoint_is_not_found(api: httpx.Client, id_: str) -> None:
    assert api.get(f"/v1/webhooks/{id_}").status_code == 404


@pytest.mark.parametrize("id_", ["0-1", "1", "a-b", "0-99999999999999999999"])
def test_what_is_no_delivery_is_not_found(api: httpx.Client, id_: str) -> None:
    path = f"/v1/webhooks/{make(api)['id']}/deliveries/{id_}"

    assert api.get(path).status_code == 404
    assert api.post(f"{path}/resend", json={}).status_code == 404


def test_recovery_is_bounded_by_what_is_kept(api: httpx.Client) -> None:
    path = f"/v1/webhooks/{make(api)['id']}/recover"

    for told, field in (
        ({"since": _ago(31 * 86_400)}, "since"),
        ({"since": _ago(60), "until": _ago(120)}, "until"),
        ({"since": "2025-01-01T00:00:00"}, "since"),
        ({}, "since"),
    ):
        answer = api.post(path, json=told)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
    answer = api.post(path, json={"since": _ago(0)})  # others have written to this account before
    assert (answer.status_code, answer.json()) == (202, {"count": 0, "complete": True})


def test_unknown_states_and_parameters_are_refused_by_name(api: httpx.Client) -> None:
    path = f"/v1/webhooks/{make(api)['id']}/deliveries"

    assert api.get(path, params={"state": "lost"}).json()["errors"][0]["field"] == "state"
    assert api.get(path, params={"colour": "red"}).json()["errors"][0]["field"] == "colour"
    assert api.get(path, params={"cursor": "x"}).json()["errors"][0]["field"] == "cursor"


def test_without_a_key_nothing_is_told(service: Service) -> None:
    for method, path in (("GET", "/v1/webhooks"), ("POST", "/v1/webhooks"), ("GET", "/v1/webhooks/wh_1")):
        answer = service.client().request(method, path, json={"url": URL})
        assert answer.status_code == 401


def test_addresses_and_secrets_are_nowhere_in_the_database_or_the_log(api: httpx.Client, service: Service) -> None:
    make(api, url="https://hooks.example.com/canary-in-the-path", secret=SECRET, description="canary-description")

    (row,) = service.rows(
        "SELECT destinations::text, sealed FROM destinations WHERE account = 'meta-main' AND kind <> 'deleted'"
    )

    for canary in ("canary", "hooks.example.com", SECRET):
        assert canary not in row[0]
        assert canary.encode() not in row[1]
        assert canary not in service.log()


def _ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_every_answer_is_as_the_document_describes_it(api: httpx.Client, service: Service) -> None:
    document = service.client().get("/openapi.json").json()
    id_ = make(api)["id"]
    by_id, deliveries = "/v1/webhooks/{endpoint_id}", "/v1/webhooks/{endpoint_id}/deliveries"
    path, since = f"/v1/webhooks/{id_}", {"since": _ago(60)}

    asked = [
        ("/v1/webhooks", "post", api.post("/v1/webhooks", json={"url": URL})),
        ("/v1/webhooks", "post", api.post("/v1/webhooks", json={})),
        ("/v1/webhooks", "get", api.get("/v1/webhooks")),
        (by_id, "get", api.get(path)),
        (by_id, "get", api.get("/v1/webhooks/none")),
        (by_id, "patch", api.patch(path, json={"description": "changed"})),
        (f"{by_id}/secrets", "post", api.post(f"{path}/secrets", json={})),
        (f"{by_id}/notices", "get", api.get(f"{path}/notices")),
        (deliveries, "get", api.get(f"{path}/deliveries")),
        (deliveries, "get", api.get(f"{path}/deliveries?limit=0")),
        (f"{deliveries}/{{delivery_id}}", "get", api.get(f"{path}/deliveries/0-1")),
        (f"{deliveries}/{{delivery_id}}/resend", "post", api.post(f"{path}/deliveries/0-1/resend", json={})),
        (f"{by_id}/recover", "post", api.post(f"{path}/recover", json=since)),
        (f"{by_id}/recover", "post", service.client().post(f"{path}/recover", json=since)),
        (by_id, "delete", api.delete(path)),
    ]

    known = {(each.path, each.method.lower()) for each in endpoint_routes.operations(object.__new__(Endpoints))}
    assert {(path, method) for path, method, _ in asked} == known
    wrong = {
        f"{method} {path} {answer.status_code}": described(document, path, method, answer)
        for path, method, answer in asked
    }
    assert {name: problems for name, problems in wrong.items() if problems} == {}

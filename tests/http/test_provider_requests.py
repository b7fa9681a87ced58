"""What providers differ in at the edge: reports by GET, and requests without a signature, forged, stale, repeated."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from ledger.wire.contract import Webhook
from tests.http.callbacks import Callback, found, history, send
from tests.plugins.service import Service, eventually
from tests.providers import senders_more as more
from tests.providers.requests import BASE_URL, NOW, REQUIRED_OPTIONS, TOPIC, header_pairs
from tests.providers.webhook_cases import CASES, Case

BY_NAME = {case.name: case for case in CASES}
#: How long after signing a request is still taken, and when it is not; by scheme.
AGES = {
    "vonage message": (timedelta(hours=24), timedelta(hours=26)),
    "sinch message": (timedelta(hours=23), timedelta(hours=26)),
    "telnyx": (timedelta(minutes=4), timedelta(minutes=6)),
    "bird channels": (timedelta(hours=30), timedelta(hours=49)),
    "messagebird sms": (timedelta(seconds=50), timedelta(minutes=2)),
    "standardwebhooks v1": (timedelta(minutes=4), timedelta(minutes=6)),
}


def name_of(case: Case) -> str:
    return re.sub(r"[^a-z0-9]+", "-", case.name)


def accounts() -> dict[str, dict[str, Any]]:
    return {
        name_of(case): {
            "provider": case.provider.name,
            "channel": sorted(case.provider.channels)[0],
            "secrets": [case.configured(b"secret").decode()],
            "public_url": BASE_URL,
            "options": case.options or REQUIRED_OPTIONS.get(case.provider.name, {}),
        }
        for case in CASES
    }


@pytest.fixture(scope="module")
def clock(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("clock") / "now"
    file.write_text(NOW.isoformat(), "utf-8")
    return file


@pytest.fixture(scope="module")
def opened(clock) -> Path:
    """The file in which the server writes the addresses that it opens."""
    return clock.with_suffix(".opened")


@pytest.fixture(scope="module")
def service(start_module_service, new_database, clock) -> Service:
    return start_module_service(new_database(), accounts=accounts(), clock=clock)


@pytest.fixture
def deliver(service, clock):
    """Sends a request to a case's account, some time after it was signed."""

    def deliver(case: Case, request: Webhook, age: timedelta = timedelta()):
        clock.write_text((NOW + age).isoformat(), "utf-8")
        headers = {name.decode(): value.decode("latin-1") for name, value in header_pairs(request)}
        callback = Callback(name_of(case), request.body, headers, request.query.decode("latin-1"), request.method)
        return send(service, callback)

    return deliver


def messages(service: Service, case: Case, message_id: str) -> list[dict[str, Any]]:
    listed = []
    for channel in case.provider.channels:
        listed += found(service.api(name_of(case), channel.value), message_id)
    return listed


def recorded(service: Service) -> int:
    return service.rows("SELECT count(*) FROM events")[0][0]


# Every provider


@pytest.mark.parametrize("name", BY_NAME)
def test_a_signed_request_is_on_record_and_a_repeat_adds_nothing(service, deliver, name):
    case = BY_NAME[name]
    request = case.request(case.item("7001", "delivered"))

    answers = [deliver(case, request).status_code for _ in range(2)]

    assert answers == [200, 200]
    assert len(messages(service, case, "7001")) == 1
    before = recorded(service)
    assert deliver(case, request).status_code == 200
    assert before == recorded(service)


@pytest.mark.parametrize("name", [case.name for case in CASES if case.covers == "all"])
def test_a_forged_request_is_refused_and_leaves_no_trace(service, deliver, name):
    case = BY_NAME[name]
    request = case.request(case.item("7002", "sent"))
    before = recorded(service)

    forged = case.altered(request, request.content.replace(b"7002", b"7003"))

    assert deliver(case, forged).status_code == 401
    assert before == recorded(service)


@pytest.mark.parametrize("name", AGES)
def test_a_late_repeat_is_taken_and_a_stale_request_is_refused(service, deliver, name):
    case, (late, stale) = BY_NAME[name], AGES[name]
    request = case.request(case.item("7004", "sent"))

    assert deliver(case, request, late).status_code == 200
    assert deliver(case, request, stale).status_code == 401


@pytest.mark.parametrize("name", BY_NAME)
def test_an_authentic_request_that_cannot_be_read_is_answered_200_and_kept(service, deliver, name):
    case = BY_NAME[name]
    before = len(service.captured(name_of(case)))
    bad = b"no=message" if case.encode({}) == b"" else b'{"no":"message"}'

    answer = deliver(case, case.request(bad))

    assert answer.status_code == 200
    assert len(service.captured(name_of(case))) == before + 1


# By GET


def test_a_report_by_get_is_recorded_with_its_query_as_evidence(service, deliver):
    case = BY_NAME["messagebird sms"]
    request = case.request(case.item("7005", "delivered"))

    assert deliver(case, request).status_code == 200

    (message,) = messages(service, case, "7005")
    (event,) = history(service.api(name_of(case), "sms"), message)
    assert "status=delivered" in json.dumps(event["evidence"])


def test_a_report_by_get_that_cannot_be_read_is_kept_with_its_query(service, deliver):
    case = BY_NAME["messagebird sms"]
    query = urlencode({"id": "7006", "nothing": "else"}).encode()

    assert deliver(case, case.request(query)).status_code == 200

    assert query in [content for _, content in service.captured(name_of(case))]


def test_a_provider_that_never_calls_by_get_is_not_called_by_get(service):
    answer = service.client().get("/webhooks/telnyx")

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_provider_that_calls_by_get_allows_both(service):
    answer = service.client().put("/webhooks/plivo")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")


# Without a signature


@pytest.mark.parametrize("name", ["vonage message", "vonage receipt"])
def test_a_request_that_comes_again_signed_is_asked_to(service, deliver, name):
    case = BY_NAME[name]
    signed = case.request(case.item("7007", "sent"))
    unsigned = case.resign(signed)

    answer = deliver(case, unsigned)

    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 5
    assert deliver(case, signed).status_code == 200


@pytest.mark.parametrize("name", [name for name in BY_NAME if not name.startswith("vonage")])
def test_any_other_request_without_a_signature_is_refused(service, deliver, name):
    case = BY_NAME[name]

    unsigned = case.resign(case.request(case.item("7008", "sent")))

    assert deliver(case, unsigned).status_code == 401


# Ids that recipients share


@pytest.mark.parametrize("name", ["sinch sms", "messagebird sms"])
def test_a_report_joins_the_message_that_was_registered_for_its_recipient(service, deliver, name):
    case = BY_NAME[name]
    api = service.api(name_of(case), "sms")
    told = {"channel": "sms", "provider_message_id": "7101", "recipient": "+447700900123"}
    registered = api.post("/v1/messages", json=told).json()

    deliver(case, case.request(case.item("7101", "delivered")))

    assert [message["message_id"] for message in found(api, "7101")] == [registered["message_id"]]
    assert api.get(f"/v1/messages/{registered['message_id']}").json()["status"] == "DELIVERED"


@pytest.mark.parametrize("name", ["sinch sms", "messagebird sms"])
def test_a_report_joins_the_message_that_was_handed_off_for_its_recipient(service, deliver, name):
    case = BY_NAME[name]
    api = service.api(name_of(case), "sms")
    registered = api.post("/v1/messages", json={"channel": "sms", "recipient": "+447700900123"}).json()
    deliver(case, case.request(case.item("7102", "delivered")))

    api.post(f"/v1/messages/{registered['message_id']}/handoff", json={"provider_message_id": "7102"})

    assert api.get(f"/v1/messages/{registered['message_id']}").json()["status"] == "DELIVERED"


# Offers of a subscription


def an_offer(token: str, **changed: str) -> dict[str, str]:
    url = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={token}"
    told = {"Type": "SubscriptionConfirmation", "Token": token, "SubscribeURL": url, **changed}
    return more.sns_envelope(b"You have chosen to subscribe.", **told)


def accepted(opened: Path) -> str:
    return opened.read_text("utf-8") if opened.exists() else ""


def test_the_offer_of_a_subscription_is_accepted_once_it_is_known_to_be_genuine(deliver, opened):
    told = an_offer("good")

    answer = deliver(BY_NAME["aws"], more.sign_sns(told, b"secret"))

    assert answer.status_code == 200
    eventually(lambda: told["SubscribeURL"] in accepted(opened), "the offer is accepted")


@pytest.mark.parametrize(
    ("token", "secret", "changed"),
    [
        ("forged", b"another", {}),
        ("elsewhere", b"secret", {"SubscribeURL": "https://sns.eu-west-1.amazonaws.com.evil.example/?Token=elsewhere"}),
        ("other-topic", b"secret", {"TopicArn": "arn:aws:sns:eu-west-1:999999999999:theirs"}),
    ],
)
def test_no_other_offer_is_accepted(deliver, opened, token, secret, changed):
    deliver(BY_NAME["aws"], more.sign_sns(an_offer(token, **changed), secret))
    deliver(BY_NAME["aws"], more.sign_sns(last := an_offer(f"after-{token}"), b"secret"))

    eventually(lambda: last["SubscribeURL"] in accepted(opened), "the next offer is accepted")
    assert f"={token}" not in accepted(opened)

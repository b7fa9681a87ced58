"""The whole way, over sockets: a provider calls in, a customer is called, by servers as users start them."""

import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from tests.http.callbacks import meta, meta_status, new_wamid, only, send
from tests.outbound.receiver import Receiver, answers, receiving
from tests.plugins.service import Service, Starter, eventually

LOOPBACK = "127.0.0.0/8"


@pytest.fixture
def start(start_service: Starter, database_url: str) -> Any:
    return lambda *arguments, **settings: start_service(database_url, *arguments, outbound_allow=LOOPBACK, **settings)


def endpoint(api: httpx.Client, receiver: Receiver, path: str = "") -> dict[str, Any]:
    answer = api.post("/v1/webhooks", json={"url": receiver.url + path})
    assert answer.status_code == 201, answer.text
    return answer.json()


def of_message(receiver: Receiver, message_id: int) -> list[Any]:
    return [each for each in receiver.received if each.data["message_id"] == message_id]


def test_what_a_provider_says_arrives_at_the_customers_endpoint_in_the_words_of_the_api(
    start: Any, receiver: Receiver
) -> None:
    service = start()
    api = service.api("meta-main", "whatsapp")
    made, wamid = endpoint(api, receiver), new_wamid()

    for status in ("sent", "delivered", "read"):
        assert send(service, meta(meta_status(wamid, status))).status_code == 200
    eventually(lambda: len(receiver.received) == 3, "three changes arrive")

    shown = only(api, wamid)
    last = receiver.received[-1]
    assert receiver.statuses == ["SENT", "DELIVERED", "READ"]
    assert Webhook(made["secret"]).verify(last.body, last.headers)
    for field in ("message_id", "version", "status", "status_detail", "recipient", "provider_message_id", "conflict",
                  "is_final", "last_updated", "failure", "account", "channel", "provider"):  # fmt: skip
        assert last.data[field] == shown[field], field
    deliveries = eventually(
        lambda: _if(lambda page: all(each["state"] == "delivered" for each in page["items"]),
                    api.get(f"/v1/webhooks/{made['id']}/deliveries").json()),
        "all are settled",
    )  # fmt: skip
    assert [each["webhook_id"] for each in deliveries["items"]] == receiver.ids[::-1]
    assert [each["version"] for each in deliveries["items"]] == [3, 2, 1]
    detail = api.get(f"/v1/webhooks/{made['id']}/deliveries/{deliveries['items'][0]['id']}").json()
    assert [(each["number"], each["outcome"], each["answer"]) for each in detail["log"]] == [(1, "delivered", 200)]


def test_deliveries_are_paged_and_filtered_and_sent_again_on_request(start: Any, receiver: Receiver) -> None:
    service = start()
    api = service.api("meta-main", "whatsapp")
    receiver.otherwise = answers(410)
    path = f"/v1/webhooks/{endpoint(api, receiver)['id']}"
    for _ in range(3):
        send(service, meta(meta_status(new_wamid())))
    eventually(lambda: api.get(path).json()["deliveries"]["held"] == 3, "410 disables, and what came is held")
    assert api.get(path).json()["disabled_reason"] == "gone"

    first = api.get(f"{path}/deliveries", params={"limit": 2, "state": "held"}).json()
    rest = api.get(f"{path}/deliveries", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    ids = [each["id"] for each in first["items"] + rest["items"]]
    assert (len(ids), len(set(ids)), rest["next_cursor"]) == (3, 3, None)
    assert all(each["message_id"] and each["version"] == 1 for each in first["items"] + rest["items"])
    assert api.get(f"{path}/deliveries", params={"state": "delivered,parked"}).json()["items"] == []

    receiver.otherwise = answers(200)
    refused = api.post(f"{path}/deliveries/{ids[0]}/resend", json={})
    assert refused.json()["code"] == "endpoint_disabled"
    api.patch(path, json={"enabled": True})
    before = len(receiver.received)
    assert api.post(f"{path}/deliveries/{ids[0]}/resend", json={}).status_code == 202
    eventually(lambda: len(receiver.received) == before + 1, "one is sent")
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    assert api.post(f"{path}/recover", json={"since": since}).json() == {"count": 2, "complete": True}
    eventually(lambda: len(receiver.received) == before + 3, "the others are recovered")
    assert api.get(path).json()["deliveries"]["held"] == 0


def test_nothing_of_one_account_reaches_the_endpoint_of_another(start: Any) -> None:
    service = start()
    with receiving() as main, receiving() as other:
        endpoint(service.api("meta-main", "whatsapp"), main)
        endpoint(service.api("meta-other", "whatsapp"), other)

        send(service, meta(meta_status(new_wamid())))
        send(service, meta(meta_status(new_wamid()), account="meta-other"))
        eventually(lambda: main.received and other.received, "both arrive")

        assert [each.data["account"] for each in main.received] == ["meta-main"]
        assert [each.data["account"] for each in other.received] == ["meta-other"]


def test_several_processes_send_once_and_count_what_they_sent(start: Any, receiver: Receiver) -> None:
    service = start("--workers", "2")
    endpoint(service.api("meta-main", "whatsapp"), receiver)

    send(service, meta(*(meta_status(new_wamid()) for _ in range(5))))
    eventually(lambda: len(receiver.received) == 5, "all arrive")

    counted = 'ledger_outbound_attempts_total{kind="webhook",outcome="delivered"} 5.0'
    eventually(lambda: counted in service.client().get("/metrics").text, "all are counted")
    assert len(receiver.received) == 5


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "several"])
def test_a_server_that_drains_ends_in_time_with_attempts_under_way(
    start: Any, receiver: Receiver, arguments: tuple[str, ...]
) -> None:
    service = start(*arguments)
    api = service.api("meta-main", "whatsapp")
    endpoint(api, receiver)
    receiver.otherwise = lambda handler: receiver.ended.wait(30)  # type: ignore[assignment, return-value]
    send(service, meta(meta_status(new_wamid())))
    eventually(lambda: receiver.received, "an attempt is under way")

    assert service.stop() == 0
    assert service.rows("SELECT count(*) FROM deliveries WHERE leased_until > now()") == [(0,)]  # given back


def test_kills_during_pushes_lose_nothing_and_tell_nobody_what_is_not_theirs(start: Any) -> None:
    """Servers are killed while they push. In the end everybody has had every change of theirs, in order."""
    kills, messages = 3, 8
    with receiving() as main, receiving() as other:
        places = {"meta-main": main, "meta-other": other}
        service = start()
        for account, receiver in places.items():
            endpoint(service.api(account, "whatsapp"), receiver)
        wamids: dict[str, list[str]] = {account: [] for account in places}
        for round_ in range(kills):
            for account, receiver in places.items():
                receiver.script = [answers(200), answers(500)] * 2
                fresh = [new_wamid() for _ in range(messages)]
                wamids[account] += fresh
                for status in ("sent", "delivered", "read"):
                    sent = send(service, meta(*(meta_status(wamid, status) for wamid in fresh), account=account))
                    assert sent.status_code == 200
            seen = len(main.received) + len(other.received)
            eventually(_has_grown(seen + round_, main, other), "pushing")
            service.stop(signal.SIGKILL)
            service.rows("UPDATE deliveries SET leased_until = '-infinity' RETURNING 1")  # leases of the dead run out
            service = start()

        expected = kills * messages * 3
        for account, receiver in places.items():
            eventually(
                lambda receiver=receiver: _let_waiting_pass(service) or len(set(receiver.ids)) == expected,
                f"every change reaches {account}",
                60,
            )
            assert {each.data["account"] for each in receiver.received} == {account}
            assert {each.data["provider_message_id"] for each in receiver.received} == set(wamids[account])
            for message_id in {each.data["message_id"] for each in receiver.received}:
                versions = [each.data["version"] for each in of_message(receiver, message_id)]
                first = list(dict.fromkeys(versions))
                assert first == [1, 2, 3]
                assert versions == sorted(versions)
            repeated = sum(count - 1 for count in Counter(receiver.ids).values())
            assert repeated < len(receiver.received) / 2  # at least once, and seldom more


def _has_grown(count: int, *receivers: Receiver) -> Callable[[], bool]:
    return lambda: sum(len(receiver.received) for receiver in receivers) > count


def _let_waiting_pass(service: Service) -> None:
    """Move what waits for a retry to now."""
    service.rows("UPDATE deliveries SET next_at = now() WHERE state = 'pending' AND next_at > now() RETURNING 1")
    service.rows("UPDATE destinations SET paused_until = '-infinity' RETURNING 1")


def _if(condition: Any, value: Any) -> Any:
    return value if condition(value) else None

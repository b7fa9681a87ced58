"""`serve` asks providers, in one process and in several."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from ledger import main
from ledger.commands import serve
from tests.ingest.fault_proxy import proxied
from tests.plugins.service import ACCOUNTS, Service, eventually
from tests.polling.provider import ACCOUNT, TOKEN, Provider, Twilio
from tests.providers.senders import encode_form, sign_twilio_form

StartService = Callable[..., Service]
URL = "https://ledger.example.com/hooks/twilio"


@pytest.fixture
def provider() -> Iterator[Provider]:
    server = Twilio()
    yield server
    server.close()


def accounts(provider: Provider, **told: Any) -> dict[str, Any]:
    poll = {"account": ACCOUNT, "secret": TOKEN, "base_url": provider.url, "rate": 50, **told}
    return {**ACCOUNTS, "twilio-main": {**ACCOUNTS["twilio-main"], "poll": poll}}


def call(service: Service, sid: str, status: str) -> None:
    """Send a status callback, signed."""
    form = {"MessageSid": sid, "MessageStatus": status, "AccountSid": ACCOUNT, "To": "+12025550111"}
    webhook = sign_twilio_form(encode_form(form), b"twilio-secret", URL)
    headers = {name.decode(): value.decode() for name, value in webhook.headers.pairs}  # type: ignore[attr-defined]
    answer = service.client().post("/webhooks/twilio-main", content=webhook.body, headers=headers)
    assert answer.status_code == 200


def make_due(service: Service, count: int) -> None:
    """Let the poller think that what it will ask about in some seconds is due now."""
    waiting = "SELECT count(*) FROM poll_asks"
    eventually(lambda: service.rows(waiting)[0][0] >= count, "messages in the queue")
    service.rows("UPDATE poll_asks SET next_at = clock_timestamp() RETURNING 1")


def listed(service: Service, sid: str) -> dict[str, Any]:
    api = service.api("twilio-main", "sms")
    (item,) = api.get("/v1/messages", params={"provider_message_id": sid}).json()["items"]
    found: dict[str, Any] = api.get(f"/v1/messages/{item['message_id']}").json()
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_finds_the_outcome_of_a_message_whose_callback_was_lost(
    start_service: StartService, database_url: str, provider: Provider, workers: str
) -> None:
    provider.truth["SM1"] = {"status": "delivered"}
    service = start_service(database_url, accounts=accounts(provider), workers=workers)
    call(service, "SM1", "sent")

    make_due(service, 1)

    eventually(lambda: listed(service, "SM1")["status"] == "DELIVERED", "the outcome")
    metrics = eventually(lambda: "ledger_polls_total" in (text := service.client().get("/metrics").text) and text, "it")
    assert 'ledger_polls_total{account="twilio-main",came="answered"} 1.0' in metrics
    assert service.stop() == 0
    assert TOKEN not in service.log()
    assert "SM1" not in service.log()


def test_a_drain_waits_for_questions_under_way_and_gives_back_the_rest(
    start_service: StartService, database_url: str, provider: Provider
) -> None:
    for number in range(40):
        provider.truth[f"SM{number}"] = {"status": "delivered"}
    service = start_service(database_url, accounts=accounts(provider, rate=5))
    for number in range(40):
        call(service, f"SM{number}", "sent")
    make_due(service, 40)
    assert provider.arrived.acquire(timeout=20)

    assert service.stop() == 0

    assert service.rows("SELECT count(*) FROM poll_batches") == [(0,)]
    done = len(set(provider.asked))
    found = service.rows("SELECT count(*) FROM current_status WHERE status = 'DELIVERED'")
    assert found == [(done,)]


def test_a_poller_that_finds_no_database_when_it_starts_asks_once_there_is_one(
    start_service: StartService, database_url: str, provider: Provider
) -> None:
    """Found under fire: the database had gone between the start of the process and that of its poller."""
    provider.truth["SM1"] = {"status": "delivered"}
    service = start_service(database_url, "--role", "web", accounts=accounts(provider))
    call(service, "SM1", "sent")
    service.parts.feed.drain()
    service.parts.feed.close()
    make_due(service, 1)
    stopping = threading.Event()
    with proxied(database_url) as proxy, capture_logs() as logged:
        proxy.down()
        (thread,) = serve._start_poller(main.read(service.environ), proxy.url, stopping)
        eventually(lambda: not thread.is_alive() or logged, "the first attempt")
        proxy.up()

        eventually(lambda: provider.asked == ["SM1"], "the question")
        stopping.set()
        thread.join()
    assert [each["event"] for each in logged] == ["poll_postponed"]

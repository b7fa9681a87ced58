"""No phone number, provider id, key, secret or password in logs, metrics, refusals or the database (A6).

Canaries go in through every input there is: good, wrong and failing requests, headers, paths and settings. Afterwards
everything the service has put out is searched for them, also written as URLs, base64 and hexadecimal digits.
"""

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import httpx
import pytest
from psycopg.conninfo import make_conninfo

from tests.http.callbacks import (
    Callback,
    meta_body,
    meta_failure,
    meta_signed,
    meta_status,
    new_sid,
    new_wamid,
    only,
    send,
)
from tests.http.test_faults import Outside, database_away, poisoned, recovered
from tests.plugins.service import Service, Starter
from tests.plugins.spills import spilled

PHONE = "15558675309"
BSUID = "US.77012345678canary"
TEXT = "canary text of a person"
PASSWORD = "canary-database-password"
APP_SECRET = "canary-app-secret-0123456789"
VERIFY_TOKEN = "canary-verify-token-0123456789"
MASTER_KEY = base64.b64encode(b"canary master key of 32 bytes!!!").decode()
DEPLOYMENT_SECRET = base64.b64encode(b"canary deployment secret").decode()

ACCOUNTS = {
    "meta-main": {"provider": "meta", "channel": "whatsapp", "secrets": [APP_SECRET], "verify_token": VERIFY_TOKEN},
}


class Watched(NamedTuple):
    """A server made of canaries, after its end: what it put out, and what it answered where it refused."""

    log: str
    metrics: str
    activity: str
    command: str
    dump: str
    refusals: list[str]
    canaries: list[str]


@pytest.fixture(scope="module", params=["json", "console"])
def watched(request, start_module_service: Starter, new_database: Callable[[], str]) -> Watched:
    service = start_module_service(
        make_conninfo(new_database(), password=PASSWORD),
        accounts=ACCOUNTS,
        log_format=request.param,
        log_level="debug",
        master_key=MASTER_KEY,
        deployment_secret=DEPLOYMENT_SECRET,
        rate_limit="10000/1",
    )
    _, key = service.new_key("meta-main", "whatsapp")
    revoked, ended = service.new_key("meta-main", "whatsapp")
    service.parts.keys.revoke(revoked.id)
    wamid = new_wamid(PHONE)
    secrets = [PASSWORD, APP_SECRET, VERIFY_TOKEN, MASTER_KEY, DEPLOYMENT_SECRET]
    refusals: list[str] = []

    def note(answer: httpx.Response) -> None:
        if answer.status_code >= 400:
            answer.read()
            refusals.append(f"{answer.status_code} {answer.headers} {answer.text}")

    for client in (service.client(), service.client(key), service.client(ended)):
        client.event_hooks = {"response": [note]}
    push(service, service.client(key), service.client(ended), wamid)
    metrics = service.client().get("/metrics").text
    activity = service.rows("SELECT query FROM pg_stat_activity WHERE application_name = 'status-ledger'")
    command = Path(f"/proc/{service.process.pid}/cmdline").read_text("utf-8")
    tables = service.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    dump = [row for (table,) in tables for (row,) in service.rows(f"SELECT t::text FROM {table} t")]  # noqa: S608
    assert service.stop() == 0
    return Watched(
        log=f"{service.log()}\n{service.printed}",
        metrics=metrics,
        activity=json.dumps(activity),
        command=command,
        dump="\n".join(dump),
        refusals=refusals,
        canaries=[PHONE, BSUID, TEXT, wamid, wamid.removeprefix("wamid."), key, ended, *secrets],
    )


def push(service: Service, api: httpx.Client, ended: httpx.Client, wamid: str) -> None:
    """Send canaries through every input."""
    status = {
        **meta_failure(wamid),
        "recipient_id": PHONE,
        "recipient_user_id": BSUID,
        "biz_opaque_callback_data": TEXT,
        "errors": [{"code": 131026, "title": TEXT, "error_data": {"details": f"{TEXT} +{PHONE}"}}],
    }
    good = signed(meta_body([status]))
    callbacks(service, good, status, wamid)
    message_id = only(api, wamid)["message_id"]
    told = {
        "provider_message_id": wamid,
        "recipient": f"+{PHONE}",
        "client_reference": TEXT,
        "conversation": {"conversation_id": TEXT, "part_id": BSUID},
        "metadata": {TEXT: f"{PHONE} {BSUID}"},
        "failure": {"text": f"{TEXT} {PHONE}", "code": "E1"},
    }
    for client in (api, ended, service.client()):
        requests(client, message_id, told, wamid)
    with failing(service):
        asked: list[Callable[[], object]] = [
            lambda: send(service, good),
            lambda: send(service, signed(good.body[:-9])),
            lambda: api.post("/v1/messages", json={"channel": "whatsapp", **told}),
            lambda: api.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": wamid}),
            lambda: api.get("/v1/messages", params={"recipient": f"+{PHONE}"}),
            lambda: api.get(f"/api/v1/whatsapp/messages/{message_id}"),
        ]
        with ThreadPoolExecutor(len(asked)) as pool:
            list(pool.map(lambda ask: ask(), asked))
    with poisoned(service, "meta-main", poison := new_wamid(PHONE), f"{TEXT} {PHONE} {wamid}"):
        send(service, signed(meta_body([{**status, "id": poison}, meta_status(new_sid())])))
        api.post("/v1/messages", json={"channel": "whatsapp", **told, "provider_message_id": poison})


def signed(body: bytes) -> Callback:
    return meta_signed(body, secret=APP_SECRET)


@contextmanager
def failing(service: Service) -> Iterator[None]:
    outside = Outside(service.database_url)
    with database_away(outside):
        yield
    outside.close()
    recovered(service)


def callbacks(service: Service, good: Callback, status: dict[str, Any], wamid: str) -> None:
    shown = f"{PHONE}-{BSUID}"
    for callback in (
        good,
        good._replace(body=good.body[:-3]),
        good._replace(account=f"canary-{PHONE}"),
        good._replace(query=f"phone=%2B{PHONE}&id={quote(wamid)}&secret={APP_SECRET}"),
        good._replace(headers={**good.headers, "x-hub-signature-256": f"sha256={APP_SECRET}"}),
        good._replace(headers={**good.headers, "content-type": f"text/{PHONE}"}),
        good._replace(headers={**good.headers, "content-encoding": PHONE}),
        good._replace(headers={**good.headers, "user-agent": shown, "cookie": f"session={shown}", "referer": wamid}),
        signed(good.body[:-9]),
        signed(b"\xff" + good.body),
        signed(b"[" * 5_000 + good.body),
        signed(meta_body([status, {**status, "id": [wamid]}, {**status, "status": PHONE}, PHONE])),
        signed(meta_body([], errors=[{"code": PHONE, "title": f"{TEXT} {wamid}"}])),
    ):
        send(service, callback)
    for token in (VERIFY_TOKEN, f"{VERIFY_TOKEN}x"):
        query = f"hub.mode=subscribe&hub.verify_token={token}&hub.challenge="
        for challenge in (PHONE, f"%2B{PHONE}"):
            service.client().get(f"/webhooks/meta-main?{query}{challenge}")


def requests(client: httpx.Client, message_id: int, told: dict[str, Any], wamid: str) -> None:
    path = f"/v1/messages/{message_id}"
    headers = {"idempotency-key": f"{PHONE}-{BSUID}"}
    for body in (
        {"channel": "whatsapp", **told},
        {"channel": PHONE},
        {"channel": "sms", **told},
        {"channel": "whatsapp", **told, "queued_at": PHONE},
        {"channel": "whatsapp", **told, "provider_status": wamid},
        {"channel": "whatsapp", **told, "metadata": {PHONE: [wamid]}},
        {"channel": "whatsapp", "client_reference": PHONE},
    ):
        client.post("/v1/messages", json=body)
        client.post("/v1/messages", json=body, headers=headers)
    for body in (f'{{"channel": "{PHONE}'.encode(), PHONE.encode(), f'{{"channel": "{TEXT}\xff"}}'.encode("latin-1")):
        client.post("/v1/messages", content=body, headers={"content-type": "application/json"})
    client.post("/v1/messages", content=wamid.encode(), headers={"content-type": f"text/{PHONE}"})
    for body in ({"provider_message_id": wamid}, {"failure": told["failure"]}, {"failure": PHONE}, {"sent_at": PHONE}):
        client.post(f"{path}/handoff", json=body)
    for body in ({"to": "failed", "by": TEXT, "why": f"{TEXT} {PHONE}"}, {"to": PHONE, "by": TEXT, "why": wamid}):
        client.post(f"{path}/corrections", json=body)
    for parameters in (
        {"recipient": f"+{PHONE}"},
        {"provider_message_id": wamid},
        {"client_reference": TEXT},
        {"status": PHONE},
        {"cursor": wamid},
        {"limit": PHONE},
        {"since": f"+{PHONE}"},
        {"conflict": wamid},
    ):
        client.get("/v1/messages", params=parameters)
        client.get("/api/v1/whatsapp/messages", params=parameters)
    for place in (
        path,
        f"{path}/history",
        f"/v1/messages/{PHONE}",
        f"/v1/messages/{quote(wamid, safe='')}",
        f"/{PHONE}",
    ):
        client.get(place)
        client.get(place, headers={"if-none-match": wamid, "prefer": f"wait={PHONE}"})
    for place in (str(message_id), PHONE, quote(wamid, safe=""), ""):
        client.get(f"/api/v1/whatsapp/messages/{place}", params={"status_style": "channel"})
        client.get(f"/api/v1/whatsapp/messages/{place}", params={"status_style": PHONE})
    client.delete(f"{path}?phone={PHONE}")
    for name in ("x-octopods-auth", "authorization"):
        client.get("/v1/messages", headers={name: f"Bearer {PHONE}{APP_SECRET}"})


def test_nothing_personal_and_no_secret_is_logged(watched):
    assert spilled(watched.log, watched.canaries) == []
    # Nothing of this is vacuous: all these paths were taken, and logged.
    for word in ("webhook_refused", "webhook_captured", "account_alert", "statement_poisoned", "request_failed"):
        assert word in watched.log


def test_nothing_personal_and_no_secret_is_in_a_refusal(watched):
    assert [found for refusal in watched.refusals for found in spilled(refusal, watched.canaries)] == []
    seen = {refusal[:3] for refusal in watched.refusals}
    assert seen >= {"400", "401", "403", "404", "405", "409", "415", "422", "500", "503"}


@pytest.mark.parametrize("output", ["metrics", "activity", "command"])
def test_nothing_personal_and_no_secret_is_in_what_operators_see(watched, output):
    assert spilled(getattr(watched, output), watched.canaries) == []


def test_the_database_holds_nothing_personal_and_no_secret_in_the_clear(watched):
    assert len(watched.dump) > 10_000
    assert spilled(watched.dump, watched.canaries) == []


def test_the_search_finds_a_canary_however_it_is_written():
    for written in (
        PHONE,
        f"%2B{PHONE}",
        base64.b64encode(PHONE.encode()).decode(),
        base64.b64encode(f"a{PHONE}b".encode()).decode(),
        base64.urlsafe_b64encode(f"ab{PHONE}c".encode()).decode(),
        new_wamid(PHONE),
        PHONE.encode().hex(),
        quote(TEXT),
        quote_plus(TEXT),
        json.dumps(f'"{APP_SECRET}"'),
    ):
        assert spilled(f"… {written} …", [PHONE, TEXT, APP_SECRET])
    assert spilled("nothing of the kind 12025550123", [PHONE, TEXT, APP_SECRET]) == []

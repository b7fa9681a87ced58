"""Servers as users start them push to the HubSpot accounts of two customers, and are killed while they do."""

import signal
from pathlib import Path
from typing import Any

from tests.http.callbacks import meta, meta_status, new_wamid, send
from tests.outbound.hubspot_server import HubSpot, a_hubspot, fails, throttles
from tests.outbound.test_hubspot import a_table
from tests.plugins.service import ACCOUNTS, Service, Starter, _table, eventually, toml

PHONES = [f"1202555{number:04}" for number in range(100, 106)]


def a_config(path: Path, hubspots: dict[str, HubSpot]) -> Path:
    tables = [
        _table(f"hubspot.{account}", {**a_table(hubspot), "status_property": "message_status"})
        for account, hubspot in hubspots.items()
    ]
    path.write_text("\n\n".join([toml(ACCOUNTS), *tables]), "utf-8")
    return path


def test_kills_during_pushes_lose_nothing_and_reach_no_other_account(
    start_service: Starter, database_url: str, tmp_path: Path
) -> None:
    with a_hubspot("ae1_status", "refresh-1") as one, a_hubspot("ae2_status", "refresh-2") as two:
        hubspots = {"meta-main": one, "meta-other": two}
        config = a_config(tmp_path / "hubspot.toml", hubspots)

        def start() -> Service:
            return start_service(database_url, config=str(config), outbound_allow="127.0.0.0/8")

        for number, hubspot in enumerate(hubspots.values()):
            hubspot.contacts = {f"+{phone}": f"{number}{phone}" for phone in PHONES}
        service = start()
        eventually(lambda: len(_destinations(service)) == 2, "both accounts are known")
        wamids: dict[str, list[str]] = {account: [] for account in hubspots}
        for round_ in range(3):
            for account, hubspot in hubspots.items():
                hubspot.faults = [None, fails(502), None, throttles(retry_after="1")]
                fresh = {new_wamid(phone): phone for phone in PHONES}
                wamids[account] += fresh
                for status in ("sent", "delivered"):
                    reports = [meta_status(wamid, status, recipient_id=phone) for wamid, phone in fresh.items()]
                    assert send(service, meta(*reports, account=account)).status_code == 200
            seen = sum(len(hubspot.events) for hubspot in hubspots.values())
            eventually(lambda seen=seen: sum(len(each.events) for each in hubspots.values()) > seen, f"round {round_}")
            service.stop(signal.SIGKILL)
            service.rows("UPDATE deliveries SET leased_until = '-infinity' RETURNING 1")  # leases of the dead run out
            service.rows("UPDATE destinations SET leased_until = '-infinity' RETURNING 1")
            service = start()

        for number, (account, hubspot) in enumerate(hubspots.items()):
            expected = len(wamids[account]) * 2
            eventually(
                lambda hubspot=hubspot, expected=expected: _waited(service) or len(hubspot.events) == expected,
                f"everything of {account} is there",
                60,
            )
            assert len(set(hubspot.ids)) == len(hubspot.ids)
            assert {event["eventTypeName"] for event in hubspot.events} == {hubspot.event_type}
            assert {event["objectId"] for event in hubspot.events} == {f"{number}{phone}" for phone in PHONES}
            by_message: dict[str, list[str]] = {}
            for event in hubspot.events:
                by_message.setdefault(event["properties"]["messageId"], []).append(event["properties"]["status"])
            assert set(map(tuple, by_message.values())) == {("Sent", "Delivered")}
            eventually(
                lambda hubspot=hubspot: (
                    _waited(service)
                    or all(told[-1] == {"message_status": "Delivered"} for told in hubspot.current.values())
                ),
                "every contact's current status is told",
            )
            assert hubspot.current.keys() == {f"{number}{phone}" for phone in PHONES}
        assert service.stop() == 0


def _destinations(service: Service) -> list[Any]:
    return service.rows("SELECT id FROM destinations WHERE kind = 'hubspot'")


def _waited(service: Service) -> None:
    """Let the time pass that something waits for."""
    service.rows("UPDATE deliveries SET next_at = now() WHERE state = 'pending' AND next_at > now() RETURNING 1")
    service.rows("UPDATE destinations SET paused_until = '-infinity' WHERE paused_until > now() RETURNING 1")

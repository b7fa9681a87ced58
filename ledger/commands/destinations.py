"""`destinations`: who is told of status changes, and how that goes."""

import argparse
from typing import Any

from ledger.commands.common import DONE, parts, print_json, print_table
from ledger.http.problems import timestamp
from ledger.outbound.deliveries import Deliveries, State
from ledger.store.destinations import Destination, Destinations


def add_to(commands: Any) -> None:
    destinations = commands.add_parser("destinations", help="list who is told of status changes, and how that goes")
    destinations.add_argument("--json", action="store_true")
    destinations.set_defaults(run=_list)


def _list(told: argparse.Namespace) -> int:
    with parts() as built:
        deliveries = Deliveries(built.ledger)
        found = [(each, deliveries.counts(each.id)) for each in Destinations(built.ledger).all()]
    if told.json:
        print_json({"items": [_listed(each, counts) for each, counts in found]})
    else:
        print_table(
            ("ID", "KIND", "ACCOUNT", "CHANNEL", "STATE", *(state.upper() for state in State)),
            [
                (each.id, each.kind, each.account, each.channel or "all", _state(each), *counts.values())
                for each, counts in found
            ],
        )
    return DONE


def _state(told: Destination) -> str:
    if told.disabled_reason is not None:
        return f"disabled ({told.disabled_reason})"
    return f"failing ({told.failures})" if told.failures else "enabled"


def _listed(told: Destination, counts: dict[str, int]) -> dict[str, Any]:
    """Addresses are left out: they may hold a token."""
    return {
        "id": told.id,
        "kind": told.kind.value,
        "account": told.account,
        "channel": told.channel,
        "statuses": told.statuses,
        "enabled": told.disabled_at is None,
        "disabled_reason": told.disabled_reason.value if told.disabled_reason else None,
        "failures": told.failures,
        "failing_since": timestamp(told.failing_since) if told.failing_since else None,
        "last_succeeded_at": timestamp(told.last_succeeded_at) if told.last_succeeded_at else None,
        "paused_until": timestamp(told.paused_until) if told.paused_until else None,
        "deliveries": counts,
    }

"""`destinations`."""

from datetime import UTC, datetime

from ledger.main import Parts
from ledger.outbound.signing import new_secret
from ledger.store.destinations import Destinations, Details, Kind, Reason, Signer

ADDRESS = "https://hooks.example.com/token-in-the-path"


def test_destinations_are_listed_with_how_they_are_doing_and_without_their_addresses(run, parts: Parts) -> None:
    known, details = Destinations(parts.ledger), Details(ADDRESS, "", (Signer(new_secret(), datetime.now(UTC)),))
    first = known.create(Kind.WEBHOOK, "meta-main", "whatsapp", details, most=9)
    second = known.ensure(Kind.HUBSPOT, "hubspot:meta-main", "meta-main", ["SENT"])
    gone = known.create(Kind.WEBHOOK, "meta-main", "whatsapp", details, most=9)
    known.disable(first.id, Reason.GONE)
    known.delete(gone.id)

    told = run("destinations", "--json")
    shown = run("destinations")

    assert (told.code, shown.code) == (0, 0)
    items = {item["id"]: item for item in told.json["items"]}
    assert set(items) == {first.id, second.id}
    assert (items[first.id]["enabled"], items[first.id]["disabled_reason"]) == (False, "gone")
    assert (items[second.id]["kind"], items[second.id]["statuses"]) == ("hubspot", ["SENT"])
    assert items[second.id]["deliveries"] == {"pending": 0, "delivered": 0, "parked": 0, "held": 0}
    assert "disabled (gone)" in shown.out
    assert "token-in-the-path" not in told.out + shown.out

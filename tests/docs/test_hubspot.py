"""`docs/surfaces/hubspot.md` names every setting with its default, every property and every number."""

import msgspec

from ledger.outbound.hubspot import bodies, contacts, pusher
from ledger.outbound.hubspot.settings import Api, HubspotTable
from ledger.surfaces.vocabulary import LABELS, Surface
from tests.docs.documents import code, table, tables, text_of

TEXT = text_of("docs/surfaces/hubspot.md")
ROWS = {code(row[0])[0]: row for row in table(TEXT, "Settings")}


def test_every_setting_is_documented_with_its_default_and_no_other() -> None:
    def shown(default: object) -> list[str]:
        return [str(each) for each in default] if isinstance(default, tuple) else [str(default)]

    known = {
        field.name: None if field.required or field.default is None else shown(field.default)
        for field in msgspec.structs.fields(HubspotTable)
    }

    assert known == {name: code(row[1]) or None for name, row in ROWS.items()}
    required = {field.name for field in msgspec.structs.fields(HubspotTable) if field.required}
    assert required == {name for name, row in ROWS.items() if row[1] == "required"}


def test_both_apis_and_their_paths_are_documented() -> None:
    documented = {code(row[0])[0]: row[1] for row in table(TEXT, "What HubSpot demands")}

    assert set(documented) == {api.value for api in Api}
    for api in Api:
        assert bodies.path(api, is_batch=False).removesuffix("/events") in documented[api.value]


def test_every_property_of_an_event_is_documented_and_no_other() -> None:
    listed = [line.strip() for line in TEXT.splitlines() if line.startswith("   | `")]

    assert [code(line)[0] for line in listed] == list(bodies.PROPERTIES)
    status = next(line for line in listed if line.startswith("| `status`"))
    labels = dict.fromkeys(label for label in LABELS[Surface.HUBSPOT].values() if label != "Unknown")
    assert code(status)[1:] == list(labels)


def test_numbers_in_the_text() -> None:
    flat = " ".join(TEXT.split())

    assert "remembered for a day, that there was none for ten minutes" in flat
    assert (contacts._FOUND_SECONDS, contacts._NONE_SECONDS) == (86_400, 600)
    assert "again after 5 seconds and 5 minutes" in flat
    assert pusher.CONTACT_TRIES == 3
    assert len(tables(TEXT)) >= 3

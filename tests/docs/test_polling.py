"""`docs/polling.md`, its settings and the providers' pages say of polling what is, and nothing else."""

import re
import tomllib

import msgspec
import pytest

from ledger import accounts_file
from ledger.accounts_file import POLL_BOUNDS
from ledger.config import load
from ledger.domain import polling
from ledger.domain.polling import Why
from ledger.providers import PROVIDERS
from tests.docs.documents import ROOT, code, section, table, text_of

TEXT = text_of("docs/polling.md")
KEYS = {code(row[0])[0]: row for row in table(text_of("docs/settings.md"), "Polling")}
ASKED = {name: provider.polls for name, provider in PROVIDERS.items() if provider.polls is not None}


def test_every_key_of_a_poll_table_is_documented_with_its_default_and_no_other() -> None:
    fields = {field.name: field for field in msgspec.structs.fields(accounts_file._PollTable)}

    assert set(KEYS) == set(fields)
    for name, field in fields.items():
        shown = KEYS[name][1].strip("`")
        if field.required:
            assert shown == "required"
        elif name != "base_url":
            assert shown == {None: "none", True: "true"}.get(field.default, str(field.default))


def test_documented_bounds_are_those_in_force() -> None:
    for name, (low, high) in POLL_BOUNDS.items():
        assert KEYS[name][2].endswith(f"from {low} to {high:,}"), name


def test_every_provider_that_can_be_asked_is_listed_and_no_other() -> None:
    rows = {re.findall(r"providers/(\w+)\.md", row[0])[0]: row for row in table(TEXT, "Asking providers")}

    assert set(rows) == set(ASKED)
    for name, polls in ASKED.items():
        assert rows[name][2].startswith("yes" if polls.walk else "no"), name


def test_every_reason_is_listed_and_whether_it_is_asked_about_once() -> None:
    rows = {code(row[0])[0]: row for row in table(TEXT, "Who is asked about, and why")}

    assert set(rows) == {why.value for why in Why}
    assert {name for name, row in rows.items() if row[2] == "once"} == {why.value for why in polling.ASKED_ONCE}


@pytest.mark.parametrize("name", ASKED)
def test_the_settings_on_a_providers_page_are_accepted(name: str, tmp_path: object) -> None:
    """Its account and its poll table, as they stand there, with every variable set."""
    text = (ROOT / "docs" / "providers" / f"{name}.md").read_text("utf-8")
    asking = re.search(r"^    \[accounts\.[a-z-]+\.poll\]\n(?:    .*\n)+", section(text, "Asking"), re.MULTILINE)
    assert asking is not None
    table = next(iter(tomllib.loads(asking[0])["accounts"].values()))["poll"]
    variables = {value.removeprefix("env:"): "x" for value in table.values() if str(value).startswith("env:")}

    polling = accounts_file._polling(table, PROVIDERS[name], variables)

    assert polling.base_url.startswith("https://")
    assert load({}, PROVIDERS).accounts == {}

"""Adding a provider takes its file, recorded payloads, a line in the registry, a conformance case and a page."""

import json
import re
from importlib import import_module
from pathlib import Path

import msgspec
import pytest

from ledger.config import load
from ledger.domain.observation import Claim
from ledger.domain.status import Channel, FailureKind, Status
from ledger.providers import PROVIDERS
from tests.providers.webhook_cases import CASES, PAYLOADS, recorded

DOCS = Path(__file__).parents[2] / "docs" / "providers"
PAGES = {page.stem: page.read_text("utf-8") for page in DOCS.glob("*.md")}
FILES = {file.stem for file in Path(import_module("ledger.providers").__path__[0]).glob("*.py")} - {"__init__"}

each_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


def shown(claim: Claim) -> str:
    """Say a claim as the documentation's tables do."""
    more = f" ({claim.kind.value})" if claim.kind else ", closed" if claim.closes else ""
    return "nothing" if claim.status is Status.UNKNOWN else f"{claim.status.value}{more}"


def missing(name: str) -> list[str]:
    """Name what a provider's file lacks around it."""
    index = PAGES["index"]
    needed = {
        f"ledger/providers/{name}.py": name in FILES,
        "a line in ledger/providers/__init__.py": name in PROVIDERS,
        f"a recorded request in tests/providers/payloads/{name}/": bool(recorded(name, "webhook")),
        "a case in tests/providers/webhook_cases.py": any(case.provider.name == name for case in CASES),
        f"a page docs/providers/{name}.md": PAGES.get(name, "").partition("\n")[0].endswith(f" (`{name}`)"),
        "a row in docs/providers/index.md": f"]({name}.md) | `{name}` |" in index,
    }
    return [thing for thing, is_there in needed.items() if not is_there]


@pytest.mark.parametrize("name", sorted(FILES | set(PROVIDERS) | (set(PAGES) - {"index"})))
def test_nothing_is_missing_around_a_provider(name):
    assert missing(name) == []


def test_what_is_missing_around_a_new_file_is_named():
    assert missing("pigeon") == [
        "ledger/providers/pigeon.py",
        "a line in ledger/providers/__init__.py",
        "a recorded request in tests/providers/payloads/pigeon/",
        "a case in tests/providers/webhook_cases.py",
        "a page docs/providers/pigeon.md",
        "a row in docs/providers/index.md",
    ]


def test_every_provider_is_registered_under_its_own_name():
    assert all(name == provider.name for name, provider in PROVIDERS.items())


@each_provider
def test_a_provider_is_whole(provider):
    assert re.fullmatch(r"[a-z0-9]+", provider.name)
    assert provider.channels
    assert provider.claims
    assert all(
        media_type == media_type.strip().lower() and ";" not in media_type for media_type in provider.content_types
    )


@each_provider
def test_a_claim_has_a_kind_if_and_only_if_it_is_a_failure(provider):
    for word, claim in provider.claims.items():
        assert (claim.status is Status.FAILED) == isinstance(claim.kind, FailureKind), word


def test_every_recorded_payload_belongs_to_a_provider():
    directories = {directory.name for directory in PAYLOADS.iterdir()}

    assert directories == set(PROVIDERS)
    for file in PAYLOADS.rglob("*.json"):
        assert file.parent.name == json.loads(file.read_text("utf-8"))["provider"], file.name


@each_provider
def test_every_word_is_documented_with_what_it_means(provider):
    (section,) = re.findall(r"^## Words\n(.*?)(?=^## )", PAGES[provider.name], re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", section, re.MULTILINE)

    assert {word: shown(claim) for word, claim in provider.claims.items()} == dict(rows)


@each_provider
def test_a_page_tells_what_an_integrator_needs(provider):
    headings = re.findall(r"^## (.+)$", PAGES[provider.name], re.MULTILINE)

    assert headings == [
        "Point callbacks here",
        "Account settings",
        "Retries",
        "What identifies a message",
        "Words",
        "What silence means",
        *(["Asking"] if provider.polls else []),
        "Known limits",
    ]


@each_provider
def test_every_account_on_a_page_names_its_provider_and_a_channel_it_has(provider):
    named = re.findall(r'^ *provider = "(.+)"$', PAGES[provider.name], re.MULTILINE)
    channels = re.findall(r'^ *channel = "(.+?)"', PAGES[provider.name], re.MULTILINE)

    assert {provider.name} == set(named)
    assert set(channels) <= set(provider.channels)


@each_provider
def test_the_channels_in_the_index_are_those_of_the_registry(provider):
    (row,) = re.findall(
        rf"^\| \[.+?\]\({provider.name}\.md\) \| `{provider.name}` \| (.+?) \|", PAGES["index"], re.MULTILINE
    )

    named = set(Channel) if row == "all" else {Channel(name.strip().lower()) for name in row.split(",")}

    assert named == provider.channels


@each_provider
def test_every_option_of_a_provider_is_on_its_page(provider):
    options = {field.name for field in msgspec.structs.fields(provider.options)} if provider.options else set()
    shared = {"algorithm", "encoding", "prefix"}  # of credentials; the other pages refer to the first

    told = PAGES[provider.name] + (PAGES["infobip"] if "name" in options else "")

    assert {name for name in options if f"`{name}" not in told and f"\n    {name} = " not in told} == set()
    assert shared <= options or not shared & options


@each_provider
def test_the_settings_on_a_page_can_be_used(provider, tmp_path):
    """What a reader copies must start: every indented account, with made-up values for its secrets."""
    indented = re.findall(r"^    ((?:\[|[a-z_]+ = |\"[a-z.]+\" = ).*)$", PAGES[provider.name], re.MULTILINE)
    text = re.sub(r"file:[^\"]+", "env:CERTIFICATE", "\n".join(indented))
    (tmp_path / "ledger.toml").write_text(text, "utf-8")
    secrets = dict.fromkeys(re.findall(r"env:([A-Z0-9_]+)", text), "made up")

    settings = load({"LEDGER_CONFIG": str(tmp_path / "ledger.toml"), **secrets}, PROVIDERS)

    assert {account.provider for account in settings.accounts.values()} == {provider.name}

"""Adding a provider takes its file, recorded payloads, a line in the registry, a conformance case and a section."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

from ledger.domain.observation import Claim
from ledger.domain.status import FailureKind, Status
from ledger.providers import PROVIDERS
from tests.providers.webhook_cases import CASES, PAYLOADS, recorded

DOCS = (Path(__file__).parents[2] / "docs" / "providers.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## .*?\(`([a-z0-9]+)`\)\n(.*?)(?=^## |\Z)", DOCS, re.DOTALL | re.MULTILINE))

each_provider = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS)


def shown(claim: Claim) -> str:
    """Say a claim as the documentation's tables do."""
    kind = f" ({claim.kind.value})" if claim.kind else ""
    return "nothing" if claim.status is Status.UNKNOWN else f"{claim.status.value}{kind}"


def test_the_registry_lists_every_provider_file_under_its_own_name():
    directory = Path(import_module("ledger.providers").__path__[0])
    files = {file.stem for file in directory.glob("*.py") if file.stem != "__init__"}

    assert files == set(PROVIDERS)
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


@each_provider
def test_a_provider_has_recorded_payloads_and_a_conformance_case(provider):
    assert recorded(provider.name, "webhook")
    assert [case for case in CASES if case.provider is provider]


def test_every_recorded_payload_belongs_to_a_provider():
    directories = {directory.name for directory in PAYLOADS.iterdir()}

    assert directories == set(PROVIDERS)
    for file in PAYLOADS.rglob("*.json"):
        assert file.parent.name == json.loads(file.read_text("utf-8"))["provider"], file.name


@each_provider
def test_every_word_is_documented_with_what_it_means(provider):
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", SECTIONS[provider.name], re.MULTILINE)

    assert {word: shown(claim) for word, claim in provider.claims.items()} == dict(rows)


@each_provider
def test_a_section_tells_what_an_integrator_needs(provider):
    headings = re.findall(r"^### (.+)$", SECTIONS[provider.name], re.MULTILINE)

    assert headings == [
        "Point callbacks here",
        "Account settings",
        "Retries",
        "What identifies a message",
        "Words",
        "What silence means",
        "Known limits",
    ]


@each_provider
def test_every_account_in_a_section_names_its_provider_and_a_channel_it_has(provider):
    named = re.findall(r'^ *provider = "(.+)"$', SECTIONS[provider.name], re.MULTILINE)
    channels = re.findall(r'^ *channel = "(.+?)"', SECTIONS[provider.name], re.MULTILINE)

    assert {provider.name} == set(named)
    assert set(channels) <= set(provider.channels)

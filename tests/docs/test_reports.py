"""`docs/reports.md` describes every field, parameter and kind, and no other."""

import msgspec
import pytest

from ledger.http import bodies, reports
from projections import attention, delivery, failure_reasons, latency, providers, stuck
from projections.scope import GROUPS
from tests.docs.documents import code, section, table, text_of

REPORTS = text_of("docs/reports.md")


def first_cells(heading: str, number: int = 0) -> list[str]:
    return [code(row[0])[0] for row in table(REPORTS, heading, number)]


@pytest.mark.parametrize(
    ("heading", "shape"),
    [
        ("Delivery", delivery.Funnel),
        ("Failures", failure_reasons.FailureGroup),
        ("Providers", providers.ProviderHealth),
    ],
)
def test_every_field_is_documented_and_no_other(heading: str, shape: type[msgspec.Struct]) -> None:
    documented = first_cells(heading)

    assert documented == [name for name in shape.__struct_encode_fields__ if heading == "Failures" or name != "group"]


def test_every_parameter_is_documented_and_no_other() -> None:
    assert sorted(first_cells("Parameters")) == sorted(reports.PARAMETERS)
    row = next(row for row in table(REPORTS, "Parameters") if code(row[0]) == ["group_by"])
    assert code(row[1]) == list(GROUPS)


def test_measures_ages_and_kinds_are_documented() -> None:
    assert first_cells("Latency") == list(latency.MEASURES)
    assert [word for word in code(section(REPORTS, "Stuck")) if word in stuck.AGES] == list(stuck.AGES)
    assert first_cells("Attention") == list(attention.KINDS)


def test_what_resolves_an_item_is_documented() -> None:
    words = code(section(REPORTS, "Attention"))

    assert all(name in words for name in bodies.ResolutionRequest.__struct_fields__)
    assert all(name in words for name in attention.Item.__struct_fields__)

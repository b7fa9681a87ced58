"""`docs/surfaces/webhooks.md` describes every field, endpoint, outcome and number, and no other."""

import re

import msgspec
import pytest

from ledger.http import endpoint_routes, endpoint_shapes, endpoints
from ledger.outbound import deliveries, schedule, telling, webhooks, worker
from ledger.outbound.deliveries import State
from ledger.store.destinations import Reason
from tests.docs.documents import ROOT, code, section, table, tables, text_of

TEXT = text_of("docs/surfaces/webhooks.md")


def first_cells(heading: str, number: int = 0) -> list[str]:
    return [code(row[0])[0] for row in tables(section(TEXT, heading))[number][1:]]


@pytest.mark.parametrize(
    ("heading", "number", "shape"),
    [
        ("What is sent", 0, telling.Envelope),
        ("What is sent", 1, telling.StatusData),
        ("Endpoints", 1, endpoint_shapes.EndpointRequest),
        ("Endpoints", 2, endpoint_shapes.EndpointShape),
        ("Deliveries", 1, endpoint_shapes.DeliveryShape),
        ("Deliveries", 2, endpoint_shapes.AttemptShape),
        ("Send again", 0, endpoint_shapes.RecoverRequest),
        ("Secrets", 0, endpoint_shapes.SecretRequest),
    ],
)
def test_every_field_is_documented_and_no_other(heading: str, number: int, shape: type[msgspec.Struct]) -> None:
    assert first_cells(heading, number) == list(shape.__struct_encode_fields__)


def test_every_endpoint_is_documented_and_no_other() -> None:
    known = endpoint_routes.operations(object.__new__(endpoints.Endpoints))

    documented = [(code(row[0])[0], code(row[1])[0]) for row in table(TEXT, "Endpoints")]

    assert documented == [(operation.method, operation.path) for operation in known]


def test_every_state_and_outcome_is_documented() -> None:
    source = (ROOT / "ledger/outbound/webhooks.py").read_text("utf-8")
    told = set(re.findall(r'return "([a-z_]+)"', source)) | {"redirected", "gone", "refused", "internal"}

    assert first_cells("Deliveries", 0) == [state.value for state in State]
    assert set(first_cells("Deliveries", 3)) == told
    reasons = next(row for row in table(TEXT, "When an endpoint fails") if code(row[0]) == ["disabled"])
    assert set(code(reasons[1])[1:]) == {reason.value for reason in Reason if reason is not Reason.REFUSED}


def test_numbers_in_the_text() -> None:
    flat = " ".join(TEXT.split())

    assert "5 seconds, 5 minutes, 30 minutes, 2, 5, 10, 14, 20 and 24 hours" in flat
    hours = [round(pause / 3_600) for pause in schedule.PAUSES[3:]]
    assert (list(schedule.PAUSES[:3]), hours) == ([5, 300, 1_800], [2, 5, 10, 14, 20, 24])
    assert schedule.ATTEMPTS_MAX == 10
    assert f"within {webhooks.ATTEMPT_SECONDS_MAX:.0f} seconds" in flat
    assert f"leased for {worker.LEASE_SECONDS:.0f} seconds" in flat
    assert f"channel, up to {endpoints.ENDPOINTS_MAX}" in flat
    assert f"are kept for {deliveries.KEPT_DAYS} days" in flat
    assert deliveries.DISABLED_AFTER_HOURS == 5 * 24
    assert deliveries.PROBED_AFTER == 5
    assert endpoints.SECRETS_MAX == 4
    assert f"{endpoint_shapes.KEEP_OLD_SECONDS} unless told" in flat

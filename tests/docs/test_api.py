"""`docs/api.md` and `docs/compatibility.md` describe every endpoint, field, parameter and error, and no other."""

import msgspec
import pytest

from ledger.http import api, compat, endpoint_routes, evidence, health, inputs, queries, reports, shapes
from ledger.http.compat import CompatError, CompatListed, CompatMessageStatus, CompatPage, CompatStatus
from ledger.http.endpoints import Endpoints
from ledger.http.intercom import IntercomApp
from ledger.http.problems import PROBLEMS
from ledger.http.routes import operations
from ledger.http.streams import Streams
from tests.docs.documents import blocks, code, section, table, text_of

API = text_of("docs/api.md")
COMPAT = text_of("docs/compatibility.md")


def first_cells(text: str, heading: str, number: int = 0) -> list[str]:
    return [code(row[0])[0] for row in table(text, heading, number)]


def test_every_endpoint_is_documented_and_no_other() -> None:
    types = (api.NativeApi, compat.CompatApi, health.Health, reports.ReportsApi, evidence.EvidenceApi)
    handlers = [object.__new__(type_) for type_ in types]
    surfaces = {"streams": object.__new__(Streams), "intercom": object.__new__(IntercomApp)}

    known = [*operations(*handlers, **surfaces), *endpoint_routes.operations(object.__new__(Endpoints))]

    documented = [(code(row[0])[0], code(row[1])[0]) for row in table(API, "API")]

    assert sorted(documented) == sorted((operation.method, operation.path) for operation in known)


@pytest.mark.parametrize(
    ("heading", "number", "shape"),
    [
        ("Register a message", 0, shapes.RegisterRequest),
        ("Hand a message off", 0, shapes.HandoffRequest),
        ("Read a message", 0, shapes.MessageShape),
        ("Read a message", 1, shapes.FailureShape),
        ("Replay a message", 0, shapes.HistoryItem),
        ("Decide a conflict", 0, shapes.CorrectionRequest),
    ],
)
def test_every_field_is_documented_and_no_other(heading: str, number: int, shape: type[msgspec.Struct]) -> None:
    assert first_cells(API, heading, number) == list(shape.__struct_encode_fields__)


@pytest.mark.parametrize(
    ("heading", "shape"),
    [
        ("Register a message", shapes.RegisterRequest),
        ("Hand a message off", shapes.HandoffRequest),
        ("Decide a conflict", shapes.CorrectionRequest),
    ],
)
def test_required_fields_are_documented_as_required(heading: str, shape: type[msgspec.Struct]) -> None:
    documented = {code(row[0])[0] for row in table(API, heading) if row[1].startswith("required")}

    assert documented == {field.encode_name for field in msgspec.structs.fields(shape) if field.required}


def test_the_members_of_a_retry_are_documented() -> None:
    row = next(row for row in table(API, "Read a message", 1) if code(row[0]) == ["retry"])

    assert code(row[1]) == list(shapes.RetryShape.__struct_encode_fields__)


def test_every_parameter_of_a_listing_is_documented_and_no_other() -> None:
    assert first_cells(API, "List messages") == list(queries.FILTERS)


def test_every_error_is_documented_with_its_http_status() -> None:
    documented = {code(row[0])[0]: int(row[1]) for row in table(API, "Errors")}

    assert documented == {name: status for name, (status, _) in PROBLEMS.items()}


def test_limits_in_the_text() -> None:
    assert f"1 to {queries.LIMIT_MAX}, {queries.LIMIT_DEFAULT} unless told" in " ".join(API.split())
    assert f"after N seconds (at most {api.WAIT_SECONDS_MAX})" in API
    assert f"at most {inputs.BODY_BYTES_MAX // 1024} KiB" in API


def test_every_field_of_a_compatible_status_is_documented_and_no_other() -> None:
    assert first_cells(COMPAT, "Read a status") == list(CompatStatus.__struct_fields__)


def test_the_example_of_a_compatible_listing_has_every_field() -> None:
    example = next(block for block in blocks(COMPAT) if block.info == ("json", "answer") and '"messages"' in block.text)

    page = msgspec.json.decode(example.text)

    assert set(page) == set(CompatPage.__struct_fields__)
    assert set(page["messages"][0]) == set(CompatListed.__struct_fields__)
    assert set(page["messages"][0]["message_status"]) == set(CompatMessageStatus.__struct_fields__)


def test_compatible_errors_are_documented() -> None:
    documented = {int(row[0]) for row in table(COMPAT, "Errors")}

    assert documented == {1, 2, 3, *compat._DEPRECATED.values()}
    assert all(f"`{field}`" in section(COMPAT, "Errors") or field in COMPAT for field in CompatError.__struct_fields__)

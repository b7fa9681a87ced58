"""`docs/event-log.md` describes what is stored: names, fields, and the chain, which its own code checks."""

import psycopg
import pytest

from ledger.domain.events import (
    MessageErased,
    MessageLinked,
    MessageRegistered,
    ObservedDetails,
    RegisteredDetails,
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.observation import Source
from ledger.domain.status import Status
from ledger.ingest.writer import Statement
from ledger.store import compact
from ledger.store.application import Ledger
from ledger.store.mapper import LAYOUTS
from tests.builders import NAMES as STREAMS
from tests.builders import a_receipt, an_observation, observe_command
from tests.docs.documents import blocks, code, table, text_of
from tests.plugins.ledger import Pen

TEXT = text_of("docs/event-log.md")


def by_name(number: int) -> dict[str, list[str]]:
    rows = table(TEXT, "State", number)
    return {name: code(row[1]) for row in rows for name in code(row[0])}


def checker() -> dict[str, object]:
    """Run the documented code and return what it defines."""
    source = next(block.text for block in blocks(TEXT) if block.info == ("python", "test"))
    defined: dict[str, object] = {}
    exec(source, defined)  # noqa: S102  # our own documentation
    return defined


def fields(type_: type) -> list[str]:
    return [field for field in type_.__struct_fields__ if field != "personal"]


#: Fields that came after the last event of that name was written.
LATER = {"part", "country"}
OPEN = {
    "observed.v1": [field for field in fields(StatusObserved) if field not in LATER],
    "observed.v2": fields(compact.Opened),
    "registered.v1": fields(MessageRegistered),
    "linked.v1": fields(MessageLinked),
    "corrected.v1": fields(StatusCorrected),
    "erased.v1": fields(MessageErased),
}
SEALED = {
    "observed.v1": fields(ObservedDetails),
    "observed.v2": fields(compact.Sealed),
    "registered.v1": fields(RegisteredDetails),
    "linked.v1": fields(RegisteredDetails),
}


def test_every_permanent_name_is_documented_and_no_other() -> None:
    assert [code(row[0])[0] for row in table(TEXT, "Names")] == list(LAYOUTS)


def test_open_fields_are_documented() -> None:
    assert by_name(0) == OPEN
    assert set(OPEN) == set(LAYOUTS)


def test_sealed_fields_are_documented() -> None:
    """Events without personal data are documented without sealed fields."""
    assert by_name(1) == SEALED
    assert set(SEALED) == {name for name, layout in LAYOUTS.items() if layout.read_details is not None}


def test_the_numbers_of_words_are_documented() -> None:
    words = {name: row[1] for row in table(TEXT, "State", 2) for name in code(row[0])}

    assert code(words["channel"]) == list(compact.CHANNELS)
    assert code(words["source"]) == list(compact.SOURCES)
    assert code(words["claim"]) == code(words["status_after"]) == list(compact.STATUSES)
    assert code(words["kind"]) == list(compact.KINDS[1:])
    assert code(words["verdict"]) == list(compact.VERDICTS)


@pytest.fixture
def recorded(ledger: Ledger, pen: Pen, database_url: str) -> list[tuple[object, ...]]:
    """The rows of a log of several messages, as the documented statement selects them."""
    receipt = a_receipt(source=Source.CALLBACK)
    for reference in ("one", "two", "three"):
        stream_id = STREAMS.stream_id(receipt.account, reference)
        for status in (Status.SENT, Status.DELIVERED, Status.READ):
            observation = an_observation(status, reference=reference)
            pen.write(Statement(stream_id, observe_command(observation, receipt=receipt)))
    with psycopg.connect(database_url) as connection:
        columns = str(checker()["COLUMNS"])
        return connection.execute(f"SELECT {columns} FROM events ORDER BY position").fetchall()  # noqa: S608


def test_the_documented_check_accepts_what_is_stored(recorded: list[tuple[object, ...]]) -> None:
    first_bad = checker()["first_bad"]

    assert len(recorded) == 9
    assert first_bad(recorded) is None  # type: ignore[operator]


@pytest.mark.parametrize("column", range(7))
def test_the_documented_check_finds_every_altered_column(recorded: list[tuple[object, ...]], column: int) -> None:
    first_bad = checker()["first_bad"]
    altered = [list(row) for row in recorded]
    altered[4][column] = {2: 99, 3: "observed.v0"}.get(column, recorded[0][column])

    assert first_bad(altered) is not None  # type: ignore[operator]


def test_the_documented_check_finds_a_removed_event(recorded: list[tuple[object, ...]]) -> None:
    first_bad = checker()["first_bad"]

    assert first_bad(recorded[:3] + recorded[4:]) is not None  # type: ignore[operator]

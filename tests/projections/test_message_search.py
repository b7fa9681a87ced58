"""What a search of messages looks at: plans are read, so that no page of the list can grow with the table."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from ledger.domain.status import Conflict, Status
from ledger.store.application import Ledger
from projections import message_search
from projections.current_status import CurrentStatus
from projections.message_search import MessageSearch, Search

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SCOPES = (("a", "sms"), ("a", "whatsapp"), ("b", "sms"))
ROWS = 6_000
SCANNED = 500
INDEXES = {
    "current_status_newest",
    "current_status_failed",
    "current_status_conflicts",
    "current_status_recipient_lookup",
    "current_status_reference_lookup",
    "current_status_provider_lookup",
    "current_status_pkey",
    "message_keys_pkey",
}
WORDS = [
    Search(scopes=SCOPES),
    Search(scopes=SCOPES[:1]),
    Search(scopes=SCOPES, statuses=(Status.QUEUED,)),
    Search(scopes=SCOPES, statuses=(Status.FAILED,)),
    Search(scopes=SCOPES, statuses=(Status.FAILED,), failure_category="network"),
    Search(scopes=SCOPES, conflict=Conflict.OPEN),
    Search(scopes=SCOPES, providers=("twilio",), since=NOW - timedelta(days=1), until=NOW),
]


@pytest.fixture(scope="module")
def search(module_ledger: Ledger) -> Iterator[MessageSearch]:
    """Rows as the append writes them, but for what is sealed: one in a thousand has failed, none of the newest."""
    with module_ledger.reading() as cursor:
        cursor.execute(_ROWS, {"rows": ROWS, "now": NOW})
        cursor.execute(b"ANALYZE current_status")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message_search, "SCANNED_MAX", SCANNED)
        yield MessageSearch(module_ledger, CurrentStatus(module_ledger))


def plan(ledger: Ledger, statement: sql.Composed, parameters: list[object]) -> list[dict[str, object]]:
    """Return the nodes of a plan that was carried out: that of a large table, which a small one would not be worth."""
    explained = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON, TIMING OFF) ") + statement
    with ledger.viewing() as cursor:
        for way in (b"enable_seqscan", b"enable_bitmapscan", b"enable_sort", b"enable_hashjoin"):
            cursor.execute(b"SET LOCAL " + way + b" = off")
        row = cursor.execute(explained, parameters).fetchone()
    assert row is not None
    told = row[0] if isinstance(row[0], list) else json.loads(row[0])
    nodes, found = [told[0]["Plan"]], []
    while nodes:
        node = nodes.pop()
        found.append(node)
        nodes.extend(node.get("Plans", ()))
    return found


def looked_at(nodes: list[dict[str, object]]) -> int:
    """Return how many rows the plan took out of tables and indexes."""
    scans = [node for node in nodes if "Index Name" in node and node["Index Name"] != "message_keys_pkey"]
    return sum(
        round((int(node["Actual Rows"]) + int(node.get("Rows Removed by Filter", 0))) * int(node["Actual Loops"]))  # type: ignore[call-overload]
        for node in scans
    )


@pytest.mark.parametrize("told", WORDS, ids=str)
@pytest.mark.parametrize("before", [None, (NOW - timedelta(hours=1), 1)], ids=["first", "later"])
def test_words_walk_down_indexes_in_order_and_no_further_than_the_bound(
    module_ledger: Ledger, search: MessageSearch, told: Search, before: message_search.Place | None
) -> None:
    nodes = plan(module_ledger, *search.statement(told, before, 51))

    kinds = {str(node["Node Type"]) for node in nodes}
    assert "Seq Scan" not in kinds
    assert {node["Index Name"] for node in nodes if "Index Name" in node} <= INDEXES
    # Each scope may have read one row more than was taken from it.
    assert looked_at(nodes) <= SCANNED + len(SCOPES)
    assert "Sort" not in kinds or told.conflict is not None


@pytest.mark.parametrize("told", WORDS[:3], ids=str)
def test_a_page_that_is_full_reads_little_more_than_it_shows(
    module_ledger: Ledger, search: MessageSearch, told: Search
) -> None:
    nodes = plan(module_ledger, *search.statement(told, None, 51))

    few = 51 if not told.statuses else 51 * 4  # every fourth row is queued
    assert looked_at(nodes) <= few + len(SCOPES) + 4


def test_looking_for_the_bound_reads_the_index_alone(module_ledger: Ledger, search: MessageSearch) -> None:
    with psycopg.connect(module_ledger.recorder.datastore.pool.conninfo, autocommit=True) as connection:
        connection.execute("VACUUM current_status")

    nodes = plan(module_ledger, *search.bound_statement(Search(scopes=SCOPES), None))

    assert {node["Node Type"] for node in nodes} <= {
        "Limit",
        "Merge Append",
        "Append",
        "Index Only Scan",
        "Subquery Scan",
    }
    assert looked_at(nodes) <= SCANNED + len(SCOPES)


def test_a_term_is_looked_up_and_nothing_else_is_read(module_ledger: Ledger, search: MessageSearch) -> None:
    nodes = plan(module_ledger, *search.statement(Search(scopes=SCOPES, term="+12025550123"), None, 51))

    scanned = [node for node in nodes if node["Node Type"] == "Seq Scan"]
    assert not scanned
    assert looked_at(nodes) <= 10


def test_a_search_that_stops_at_its_bound_says_so_and_goes_on_from_there(search: MessageSearch) -> None:
    told = Search(scopes=SCOPES, statuses=(Status.DELETED,))
    pages, before = 0, None
    while True:
        found = search.find(told, before=before, limit=50)
        assert not found.messages
        pages += 1
        if found.after is None:
            break
        assert found.is_cut
        assert before is None or found.after < before
        before = found.after

    assert pages == ROWS // SCANNED + 1
    assert not found.is_cut


def test_every_account_and_channel_is_found_by_stepping(search: MessageSearch) -> None:
    assert search.scopes() == [*SCOPES]


def test_whoever_sees_nothing_finds_nothing(search: MessageSearch) -> None:
    assert search.find(Search(scopes=()), limit=50) == ([], None, False)


_ROWS = b"""
INSERT INTO current_status (message_id, opened_at, last_updated, failed_at, stream_id, version, partition, account,
                            provider, channel, status, conflict, failure_category, state)
SELECT n * 256, %(now)s - n * interval '1 minute', %(now)s, CASE WHEN n %% 1000 = 999 THEN %(now)s END,
       gen_random_uuid(), 1, 0, CASE WHEN n %% 3 = 2 THEN 'b' ELSE 'a' END, 'twilio',
       CASE WHEN n %% 3 = 1 THEN 'whatsapp' ELSE 'sms' END,
       CASE WHEN n %% 1000 = 999 THEN 'FAILED' WHEN n %% 4 = 0 THEN 'QUEUED' ELSE 'SENT' END,
       CASE WHEN n %% 2000 = 7 THEN 'open' ELSE 'none' END, CASE WHEN n %% 1000 = 999 THEN 'network' END, ''
  FROM generate_series(1, %(rows)s) n
"""

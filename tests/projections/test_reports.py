"""The reports follow from events alone: whatever the pages, the partitions, the feeds; live or rebuilt."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from ledger.domain.status import Outcome, Status, outcome
from ledger.store.application import Ledger
from tests.plugins.ledger import OpenLedger, Pen, Shape, steady
from tests.projections import rebuilding
from tests.projections.following import difference, follow, live
from tests.projections.histories import Told, histories
from tests.statements import an_account


def test_live_rows_equal_rebuilt_rows_and_what_the_messages_say(
    shape: Shape,
    shaped_url: str,
    open_ledger: OpenLedger,
    start_writer: Callable[..., Pen],
    tmp_path: Path,
) -> None:  # pytest asks for fixtures by name
    ledger = steady(open_ledger(shaped_url, partitions=shape.partitions))
    pen = start_writer(ledger)

    @settings(max_examples=15)
    @given(histories)
    def check(history: list[dict[str, Any]]) -> None:
        account = an_account()
        told = Told(pen, account, tmp_path / "erasures.jsonl")
        for action in history:
            if action["do"] == "follow":
                follow(ledger, page=action["page"])
            else:
                told.do(action)
        follow(ledger, page=3)
        found = difference(ledger, portion=150)
        assert not found.differs, found
        assert_counts_what_messages_say(ledger, account)

    check()


def assert_counts_what_messages_say(ledger: Ledger, account: str) -> None:
    """Compare the counts of an account with its messages, folded from their events by the aggregate."""
    messages = [
        row["message"]
        for row in rebuilding.stored_rows(ledger).values()
        if row["account"] == account and row["linked_to"] is None
    ]
    expected: Counter[str] = Counter()
    reasons: Counter[Any] = Counter()
    for row in rebuilding.stored_rows(ledger).values():
        message = row["message"]
        if row["account"] != account or row["linked_to"] is not None:
            continue
        expected["messages"] += 1
        expected["registered"] += message.registered_at is not None
        expected["delivered"] += outcome(message.status) is Outcome.DELIVERED
        expected["failed"] += message.status is Status.FAILED and message.kind == "failed"
        expected["undelivered"] += message.status is Status.FAILED and message.kind == "undelivered"
        expected["deleted"] += message.status is Status.DELETED
        if row["failure_category"] is not None:
            reasons[row["failure_category"]] += 1
    generation = live(ledger)
    with ledger.connect() as connection:
        counted = connection.execute(
            f"SELECT {', '.join(f'coalesce(sum({name}), 0)::int' for name in expected)}"  # noqa: S608
            f" FROM {generation.table('delivery')} WHERE account = %s".encode(),
            (account,),
        ).fetchone()
        failures = dict(
            connection.execute(
                f"SELECT category, sum(failures)::int FROM {generation.table('failures')}"  # noqa: S608
                " WHERE account = %s GROUP BY 1".encode(),
                (account,),
            ).fetchall()
        )
    if messages:
        assert counted is not None
        assert dict(zip(expected, counted, strict=True)) == dict(expected)
    assert failures == dict(reasons)

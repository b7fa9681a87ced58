"""Orders for rebuilds: one worker at a time is at one, and another takes it up when that one dies."""

import psycopg
import pytest

from ledger.store.application import Ledger
from projections import rebuild_orders
from projections.registry import PROJECTIONS

NAME = PROJECTIONS[0].name


def test_an_order_is_taken_up_by_one_worker_and_ends_with_its_outcome(ledger: Ledger) -> None:
    rebuild_orders.place(ledger, NAME, dry_run=True, by="lee@example.com")
    rebuild_orders.place(ledger, NAME, dry_run=False, by="somebody else")  # one is under way

    with ledger.connect() as one, ledger.connect() as other:
        with rebuild_orders.taken(one) as order, rebuild_orders.taken(other) as none:
            assert none is None
            assert order is not None
            assert (order.projection, order.dry_run, order.asked_by) == (NAME, True, "lee@example.com")
            rebuild_orders.end(one, order, {"equal": 1}, None)
        with rebuild_orders.taken(other) as none:
            assert none is None

    ended = rebuild_orders.newest(ledger)[NAME]
    assert (ended.order_id, ended.outcome, ended.error) == (order.order_id, {"equal": 1}, None)
    assert ended.begun_at is not None
    assert ended.ended_at is not None


def test_an_order_whose_worker_died_is_taken_up_again(ledger: Ledger) -> None:
    rebuild_orders.place(ledger, NAME, dry_run=False, by="lee@example.com")
    dying = ledger.connect()
    with (
        ledger.connect() as administrator,
        pytest.raises(psycopg.OperationalError),
        rebuild_orders.taken(dying) as first,
    ):
        administrator.execute("SELECT pg_terminate_backend(%s, 10000)", (dying.info.backend_pid,))

    with ledger.connect() as other, rebuild_orders.taken(other) as again:
        assert again is not None
        assert first is not None
        assert again.order_id == first.order_id
        assert again.begun_at is not None


def test_several_read_models_are_rebuilt_side_by_side(ledger: Ledger) -> None:
    for projection in PROJECTIONS[:2]:
        rebuild_orders.place(ledger, projection.name, dry_run=False, by="lee@example.com")

    with (
        ledger.connect() as one,
        ledger.connect() as other,
        rebuild_orders.taken(one) as first,
        rebuild_orders.taken(other) as second,
    ):
        assert first is not None
        assert second is not None
        assert {first.projection, second.projection} == {projection.name for projection in PROJECTIONS[:2]}

"""Replacing the master key, while the service runs."""

import psycopg
import pytest

from ledger.domain.status import Status
from ledger.store import captures, rotation
from ledger.store.application import Ledger, WrongSecret
from ledger.store.captures import Capture
from ledger.store.sealing import MasterKey, SealBroken
from ledger.wire.contract import Secret
from tests.builders import at
from tests.plugins.ledger import OpenLedger, Pen
from tests.projections import rebuilding
from tests.statements import says, stream_of
from tests.store.evidence import write

OLD, NEW = Secret(bytes(range(32))), Secret(bytes(range(32, 64)))


def test_after_a_rotation_the_new_key_opens_everything_and_the_old_one_nothing(
    ledger: Ledger, pen: Pen, database_url: str, open_ledger: OpenLedger
) -> None:
    unread = Capture(
        account="account-1",
        provider="provider-1",
        reason="unreadable",
        content=b"what?",
        content_type="text/plain",
        received_at=at(0),
    )
    pen.write(says(Status.SENT, 1, recipient="+15550100"), captures=[unread])
    write(pen, messages=rotation._PAGE // 4, reports=1)
    both = open_ledger(database_url, master_key=MasterKey(NEW, OLD))

    rotated = rotation.rotate(both, "fingerprint")

    new, old = open_ledger(database_url, master_key=MasterKey(NEW)), open_ledger(database_url)
    assert rotated == {"message_keys": rotation._PAGE // 4 + 1, "captures": 1, "destinations": 0, "poll_answers": 0}
    assert "+15550100" in repr(new.history(stream_of()))
    assert rebuilding.differences(new) == []
    with new.reading() as cursor:
        row = cursor.execute("SELECT sealed, wrapped, capture_id FROM captures").fetchone()
    assert captures.opened(*row, new.master_key)[1] == b"what?"
    with pytest.raises(SealBroken):
        old.history(stream_of())


def test_a_rotation_of_several_pages_reaches_all_and_repeating_it_none(
    ledger: Ledger, pen: Pen, database_url: str, open_ledger: OpenLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "_PAGE", 7)
    write(pen, messages=30, reports=1)
    both = open_ledger(database_url, master_key=MasterKey(NEW, OLD))
    told: list[tuple[int, int]] = []

    assert rotation.rotate(both, "f", lambda done, of: told.append((done, of)))["message_keys"] == 30
    assert rotation.rotate(both, "f")["message_keys"] == 0
    assert told[-1] == (30, 30)


def test_services_with_both_keys_read_what_either_has_wrapped(
    pen: Pen, database_url: str, open_ledger: OpenLedger, start_writer
) -> None:
    """In whichever order they are restarted: first all know both keys, then all wrap by the new one."""
    first = open_ledger(database_url, master_key=MasterKey(OLD, NEW))
    second = open_ledger(database_url, master_key=MasterKey(NEW, OLD))

    start_writer(first).write(says(Status.SENT, 1))
    start_writer(second).write(says(Status.DELIVERED, 2), says(Status.SENT, 1, reference="other"))
    start_writer(first).write(says(Status.DELIVERED, 2, reference="other"))

    for ledger in (first, second):
        assert rebuilding.differences(ledger) == []


def test_the_database_belongs_to_the_new_key_once_all_is_done(
    ledger: Ledger, database_url: str, open_ledger: OpenLedger
) -> None:
    ledger.require_secrets({"LEDGER_MASTER_KEY": "old"})
    both = open_ledger(database_url, master_key=MasterKey(NEW, OLD))
    both.require_secrets({"LEDGER_MASTER_KEY": "new"}, {"LEDGER_MASTER_KEY": "old"})
    with pytest.raises(WrongSecret):
        both.require_secrets({"LEDGER_MASTER_KEY": "new"})

    rotation.rotate(both, "new")

    both.require_secrets({"LEDGER_MASTER_KEY": "new"})
    with pytest.raises(WrongSecret):
        ledger.require_secrets({"LEDGER_MASTER_KEY": "old"})


def test_a_key_that_neither_opens_stops_the_rotation_and_keeps_the_fingerprint(
    ledger: Ledger, pen: Pen, database_url: str, open_ledger: OpenLedger
) -> None:
    ledger.require_secrets({"LEDGER_MASTER_KEY": "old"})
    write(pen, messages=2, reports=1)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE message_keys SET wrapped = '\\x01' || sha256(wrapped) WHERE ctid = '(0,2)'")
    both = open_ledger(database_url, master_key=MasterKey(NEW, OLD))

    with pytest.raises(SealBroken):
        rotation.rotate(both, "new")

    both.require_secrets({"LEDGER_MASTER_KEY": "new"}, {"LEDGER_MASTER_KEY": "old"})
    with pytest.raises(WrongSecret):
        both.require_secrets({"LEDGER_MASTER_KEY": "new"})


def test_everything_that_the_master_key_wraps_is_listed(ledger: Ledger) -> None:
    with ledger.reading() as cursor:
        rows = cursor.execute(
            "SELECT table_name FROM information_schema.columns "
            "WHERE column_name = 'wrapped' AND table_schema = 'public'"
        ).fetchall()

    assert {row[0] for row in rows} == {told.table for told in rotation.WRAPPED}

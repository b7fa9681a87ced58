"""What could not be read: kept sealed, once, and counted every time it comes."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg.rows
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.store import captures
from ledger.store.application import Ledger
from ledger.store.captures import Capture
from ledger.store.sealing import SealBroken
from tests.builders import NAMES, at
from tests.plugins.ledger import MASTER_KEY, THREADS
from tests.statements import an_account

CONTENT = b'{"unreadable": "+15550100"}'


def a_capture(content: bytes = CONTENT, **told: Any) -> Capture:
    defaults: dict[str, Any] = {
        "account": "account-1",
        "provider": "provider-1",
        "reason": "body: not an object",
        "content_type": "application/json",
        "received_at": at(0),
    }
    return Capture(content=content, **(defaults | told))


def kept(ledger: Ledger, account: str = "account-1") -> list[dict[str, Any]]:
    """Return an account's captures, opened, in the order of their first receipt."""
    with ledger.reading() as cursor:
        cursor.row_factory = psycopg.rows.dict_row  # type: ignore[assignment]  # rows by column name
        cursor.execute("SELECT * FROM captures WHERE account = %s ORDER BY first_received_at", (account,))
        rows: list[dict[str, Any]] = list(cursor)  # type: ignore[arg-type]
    for row in rows:
        sealed, wrapped = row.pop("sealed"), row.pop("wrapped")
        row["content_type"], row["content"] = captures.opened(sealed, wrapped, row["capture_id"], ledger.master_key)
    return rows


def counts(ledger: Ledger, account: str = "account-1") -> list[tuple[bytes, int]]:
    return [(row["content"], row["times_received"]) for row in kept(ledger, account)]


def test_a_capture_holds_the_request_verbatim(shaped_ledger: Ledger) -> None:
    account = an_account()
    shaped_ledger.append([], [], {}, [a_capture(account=account)])

    (row,) = kept(shaped_ledger, account)
    assert row.pop("capture_id") == NAMES.stream_id(account, f"capture:{NAMES.content_digest(CONTENT).hex()}")
    assert row.pop("partition") in range(shaped_ledger.partitions)
    assert row == {
        "account": account,
        "provider": "provider-1",
        "reason": "body: not an object",
        "content": CONTENT,
        "content_type": "application/json",
        "first_received_at": at(0),
        "last_received_at": at(0),
        "times_received": 1,
        "reread_at": None,
    }


@given(content=st.binary(), content_type=st.text())
def test_any_content_reads_back_as_it_was(content: bytes, content_type: str) -> None:
    row = a_capture(content, content_type=content_type).row(NAMES, MASTER_KEY)

    assert captures.opened(row.sealed, row.wrapped, row.capture_id, MASTER_KEY) == (content_type, content)


def test_a_capture_does_not_open_as_another_one() -> None:
    one, other = a_capture(b"one").row(NAMES, MASTER_KEY), a_capture(b"other").row(NAMES, MASTER_KEY)

    with pytest.raises(SealBroken):
        captures.opened(one.sealed, one.wrapped, other.capture_id, MASTER_KEY)
    with pytest.raises(SealBroken):
        captures.opened(one.sealed, other.wrapped, other.capture_id, MASTER_KEY)


def test_a_resend_is_counted_and_not_kept_again(ledger: Ledger) -> None:
    for minute in (0, 1, 2):
        ledger.append([], [], {}, [a_capture(received_at=at(minute))])

    (row,) = kept(ledger)
    assert (row["times_received"], row["first_received_at"], row["last_received_at"]) == (3, at(0), at(2))


def test_a_resend_in_the_same_batch_is_counted_and_not_kept_again(shaped_ledger: Ledger) -> None:
    """Two requests share a transaction, or one request holds the same unreadable item twice."""
    account = an_account()
    received = [(CONTENT, at(1)), (b"other", at(0)), (CONTENT, at(2)), (CONTENT, at(0))]

    batch = [a_capture(content, received_at=received_at, account=account) for content, received_at in received]
    shaped_ledger.append([], [], {}, batch)

    assert sorted(counts(shaped_ledger, account)) == [(b"other", 1), (CONTENT, 3)]
    (row,) = [row for row in kept(shaped_ledger, account) if row["content"] == CONTENT]
    assert (row["first_received_at"], row["last_received_at"]) == (at(0), at(2))


def test_batches_of_resends_add_up(ledger: Ledger) -> None:
    ledger.append([], [], {}, [a_capture()] * 2)
    ledger.append([], [], {}, [a_capture()] * 3)

    assert counts(ledger) == [(CONTENT, 5)]


def test_a_late_resend_does_not_set_the_last_receipt_back(ledger: Ledger) -> None:
    ledger.append([], [], {}, [a_capture(received_at=at(5))])
    ledger.append([], [], {}, [a_capture(received_at=at(4))])

    assert [row["last_received_at"] for row in kept(ledger)] == [at(5)]


def test_other_content_or_another_account_is_another_capture(ledger: Ledger) -> None:
    ledger.append([], [], {}, [a_capture(), a_capture(b"other"), a_capture(account="account-2")])

    assert sorted(counts(ledger)) == [(b"other", 1), (CONTENT, 1)]
    assert counts(ledger, "account-2") == [(CONTENT, 1)]


def test_captures_in_opposite_orders_never_deadlock(shaped_ledger: Ledger) -> None:
    """Every batch touches the same captures; half of them the other way round."""
    account = an_account()
    batch = [a_capture(str(n).encode(), account=account) for n in range(60)]

    def write(writer: int) -> None:
        for _ in range(10):
            shaped_ledger.append([], [], {}, batch[:: 1 if writer % 2 else -1])

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(write, range(THREADS)))

    assert {times for _, times in counts(shaped_ledger, account)} == {10 * THREADS}

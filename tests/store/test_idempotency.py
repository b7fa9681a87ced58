"""What an idempotency key stands for."""

from concurrent.futures import ThreadPoolExecutor
from os import urandom
from uuid import UUID, uuid4

import pytest

from ledger.store.application import Ledger
from ledger.store.idempotency import KEPT_HOURS, KeyReused, claim, purge
from tests.plugins.ledger import THREADS

FINGERPRINT = b"f" * 32


@pytest.fixture
def key() -> bytes:
    return urandom(16)


def aged(ledger: Ledger, hours: float, *accounts: str) -> None:
    """Make the claims of some accounts look as old as this."""
    with ledger.reading() as cursor:
        cursor.execute(
            "UPDATE idempotency_claims SET claimed_at = clock_timestamp() - make_interval(secs => %s)"
            " WHERE account = ANY(%s)",
            (hours * 3600, list(accounts)),
        )


def test_the_first_claim_gets_the_stream_it_asks_for(shared_ledger: Ledger, key: bytes) -> None:
    stream_id = uuid4()

    assert claim(shared_ledger, "account-1", key, FINGERPRINT, stream_id) == stream_id


def test_the_same_request_again_gets_the_first_ones_stream(shared_ledger: Ledger, key: bytes) -> None:
    first = claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4())

    assert claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4()) == first


def test_another_request_under_the_same_key_is_refused(shared_ledger: Ledger, key: bytes) -> None:
    first = claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4())

    with pytest.raises(KeyReused):
        claim(shared_ledger, "account-1", key, b"g" * 32, uuid4())

    assert claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4()) == first


def test_accounts_do_not_share_keys(shared_ledger: Ledger, key: bytes) -> None:
    claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4())
    stream_id = uuid4()

    assert claim(shared_ledger, "account-2", key, b"g" * 32, stream_id) == stream_id


def test_of_many_claims_at_once_one_decides_for_all(shared_ledger: Ledger, key: bytes) -> None:
    def run(_: int) -> UUID:
        return claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4())

    with ThreadPoolExecutor(THREADS) as threads:
        streams = set(threads.map(run, range(2 * THREADS)))

    assert len(streams) == 1


def test_of_different_requests_at_once_one_wins(shared_ledger: Ledger, key: bytes) -> None:
    def run(n: int) -> UUID | None:
        try:
            return claim(shared_ledger, "account-1", key, bytes([n]) * 32, UUID(int=n))
        except KeyReused:
            return None

    with ThreadPoolExecutor(THREADS) as threads:
        won = [stream_id for stream_id in threads.map(run, range(THREADS)) if stream_id is not None]

    assert len(won) == 1


def test_a_key_is_kept_until_its_time_is_over(shared_ledger: Ledger, key: bytes) -> None:
    first = claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4())
    aged(shared_ledger, KEPT_HOURS - 0.1, "account-1")

    assert claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4()) == first
    with pytest.raises(KeyReused):
        claim(shared_ledger, "account-1", key, b"g" * 32, uuid4())


def test_a_key_may_be_used_for_something_else_afterwards(shared_ledger: Ledger, key: bytes) -> None:
    claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4())
    aged(shared_ledger, KEPT_HOURS + 0.1, "account-1")
    stream_id = uuid4()

    assert claim(shared_ledger, "account-1", key, b"g" * 32, stream_id) == stream_id
    with pytest.raises(KeyReused):
        claim(shared_ledger, "account-1", key, FINGERPRINT, uuid4())


def test_purging_forgets_what_has_run_out_and_nothing_else(ledger: Ledger, key: bytes) -> None:
    claim(ledger, "account-1", key, FINGERPRINT, uuid4())
    claim(ledger, "account-2", key, FINGERPRINT, uuid4())
    aged(ledger, KEPT_HOURS + 0.1, "account-1", "account-2")
    kept = claim(ledger, "account-3", key, FINGERPRINT, uuid4())

    assert purge(ledger) == 2
    assert purge(ledger) == 0
    assert claim(ledger, "account-3", key, FINGERPRINT, uuid4()) == kept


def test_claims_of_a_key_do_not_pile_up(ledger: Ledger, key: bytes) -> None:
    for _ in range(3):
        claim(ledger, "account-1", key, FINGERPRINT, uuid4())

    with ledger.reading() as cursor:
        assert cursor.execute("SELECT account, key_hash FROM idempotency_claims").fetchall() == [("account-1", key)]

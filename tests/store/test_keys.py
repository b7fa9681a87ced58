"""API keys: kept as a keyed hash, ended once, remembered for ever."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.domain.status import Channel, Style
from ledger.store.application import Ledger
from ledger.store.keys import PREFIX, ApiKeys, KeyState, UnknownKey
from tests.plugins.ledger import PATIENCE_SECONDS

SECRET = b"a deployment secret made up for tests"


@pytest.fixture
def keys(shared_ledger: Ledger) -> ApiKeys:
    """Keys among those of other tests."""
    return ApiKeys(shared_ledger, SECRET)


@pytest.fixture
def own_keys(ledger: Ledger) -> ApiKeys:
    """Keys in a database without any other."""
    return ApiKeys(ledger, SECRET)


def created(keys: ApiKeys, account: str = "account-1") -> tuple[str, str]:
    """Return id and secret of a new key."""
    record, secret = keys.create(account, Channel.SMS, Style.CHANNEL)
    return record.id, secret


def test_a_new_key_is_found_with_all_it_was_made_for(keys: ApiKeys) -> None:
    record, secret = keys.create("account-1", Channel.VIBER, Style.UNIFIED)

    assert keys.find(secret) == record
    assert (record.account, record.channel, record.status_style) == ("account-1", Channel.VIBER, Style.UNIFIED)
    assert (record.state, record.ended_at, record.replaced_by) == (KeyState.ACTIVE, None, None)


def test_keys_are_long_random_and_recognisable(keys: ApiKeys) -> None:
    secrets = {created(keys)[1] for _ in range(20)}

    assert len(secrets) == 20
    assert all(secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 for secret in secrets)


def test_only_a_hash_is_stored(own_keys: ApiKeys, ledger: Ledger) -> None:
    _, secret = created(own_keys)

    with ledger.reading() as cursor:
        stored = cursor.execute("SELECT t::text, hash FROM api_keys t").fetchall()

    assert [(secret in text, secret.removeprefix(PREFIX) in text, len(hash_)) for text, hash_ in stored] == [
        (False, False, 32)
    ]


def test_the_hash_needs_the_deployment_secret(keys: ApiKeys, shared_ledger: Ledger) -> None:
    """A copy of the database and a list of candidate keys are not enough."""
    _, secret = created(keys)

    assert ApiKeys(shared_ledger, b"another deployment secret").find(secret) is None


@pytest.mark.parametrize("secret", ["", "slk_", "slk_unknown", "\ud800", "x" * 10_000, "\x00", "' OR 1=1 --"])
def test_an_unknown_key_is_not_found(keys: ApiKeys, secret: str) -> None:
    created(keys)

    assert keys.find(secret) is None


def test_rotation_replaces_a_key_and_keeps_the_old_one_known(keys: ApiKeys) -> None:
    old_id, old_secret = created(keys)

    new, new_secret = keys.rotate(old_id)

    assert keys.find(new_secret) == new
    assert (new.account, new.channel, new.status_style) == ("account-1", Channel.SMS, Style.CHANNEL)
    old = keys.find(old_secret)
    assert old is not None
    assert (old.id, old.state, old.replaced_by) == (old_id, KeyState.ROTATED, new.id)
    assert old.ended_at is not None
    assert old.ended_at >= old.created_at


def test_revocation_ends_a_key_and_keeps_it_known(keys: ApiKeys) -> None:
    id_, secret = created(keys)

    revoked = keys.revoke(id_)

    assert keys.find(secret) == revoked
    assert (revoked.state, revoked.replaced_by) == (KeyState.REVOKED, None)


@pytest.mark.parametrize("first", ["rotate", "revoke"])
@pytest.mark.parametrize("then", ["rotate", "revoke"])
def test_a_key_ends_once(keys: ApiKeys, first: str, then: str) -> None:
    id_, secret = created(keys)
    getattr(keys, first)(id_)
    ended = keys.find(secret)

    with pytest.raises(UnknownKey):
        getattr(keys, then)(id_)

    assert keys.find(secret) == ended


@pytest.mark.parametrize("end", ["rotate", "revoke"])
def test_a_key_that_never_was_cannot_end(own_keys: ApiKeys, end: str) -> None:
    created(own_keys)

    with pytest.raises(UnknownKey):
        getattr(own_keys, end)("key_000000000000")

    assert [key.state for key in own_keys.all()] == [KeyState.ACTIVE]


def test_of_rotations_at_once_one_succeeds(own_keys: ApiKeys, ledger: Ledger, database_url: str) -> None:
    """Both have begun and wait for the row, which somebody else holds; then both go on."""
    id_, _ = created(own_keys)

    def rotate(_: int) -> str | None:
        try:
            return own_keys.rotate(id_)[0].id
        except UnknownKey:
            return None

    with psycopg.connect(database_url) as other, ThreadPoolExecutor(2) as threads:
        other.execute("SELECT 1 FROM api_keys FOR UPDATE")
        rotations = threads.map(rotate, range(2))
        until = time.monotonic() + PATIENCE_SECONDS
        while waiting(ledger) < 2:
            assert time.monotonic() < until, "the rotations never waited"
        other.rollback()
        made = [new for new in rotations if new is not None]

    assert len(made) == 1
    assert {key.id: key.replaced_by for key in own_keys.all()} == {id_: made[0], made[0]: None}


def waiting(ledger: Ledger) -> int:
    """Count the backends of this database that wait for a lock."""
    with ledger.reading() as cursor:
        return cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).rowcount


def test_keys_are_listed_in_the_order_of_their_making(own_keys: ApiKeys) -> None:
    ids = [created(own_keys)[0] for _ in range(3)]
    ids.append(own_keys.rotate(ids[1])[0].id)

    assert [key.id for key in own_keys.all()] == ids


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # every example makes keys of its own
@given(acts=st.lists(st.tuples(st.sampled_from(["rotate", "revoke"]), st.integers(0, 5)), max_size=6))
def test_every_key_ever_made_stays_known_in_its_last_state(keys: ApiKeys, acts: list[tuple[str, int]]) -> None:
    """At every moment a line of rotations has at most one key that works, and the ended ones say how they ended."""
    made = [created(keys)]
    expected = {made[0][0]: KeyState.ACTIVE}
    for act, which in acts:
        id_ = made[which % len(made)][0]
        if expected[id_] is not KeyState.ACTIVE:
            with pytest.raises(UnknownKey):
                getattr(keys, act)(id_)
        elif act == "revoke":
            keys.revoke(id_)
            expected[id_] = KeyState.REVOKED
        else:
            new, secret = keys.rotate(id_)
            made.append((new.id, secret))
            expected |= {id_: KeyState.ROTATED, new.id: KeyState.ACTIVE}

    found = {id_: keys.find(secret) for id_, secret in made}
    assert {id_: key.state for id_, key in found.items() if key is not None} == expected
    assert list(expected.values()).count(KeyState.ACTIVE) <= 1

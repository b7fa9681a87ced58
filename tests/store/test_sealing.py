"""Data keys, the master key, and what they refuse."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.store.sealing import DataKey, MasterKey, SealBroken, place
from ledger.wire.contract import Secret
from tests.plugins.ledger import MASTER_KEY

STREAM = UUID("00112233-4455-5677-8899-aabbccddeeff")
PLACE = place(STREAM, 1, b"event")


def altered(data: bytes, bit: int) -> bytes:
    at, mask = divmod(bit % (8 * len(data)), 8)
    return data[:at] + bytes([data[at] ^ 1 << mask]) + data[at + 1 :]


@given(data=st.binary(), bound_to=st.binary(max_size=40))
def test_what_was_sealed_opens_in_its_place(data: bytes, bound_to: bytes) -> None:
    key = DataKey.generate()

    assert key.open(key.seal(data, bound_to), bound_to) == data


@given(data=st.binary(min_size=8))
def test_sealed_bytes_hold_nothing_of_the_data(data: bytes) -> None:
    assert data not in DataKey.generate().seal(data, PLACE)


@given(data=st.binary(), bit=st.integers(0))
def test_altered_bytes_do_not_open(data: bytes, bit: int) -> None:
    key = DataKey.generate()

    with pytest.raises(SealBroken):
        key.open(altered(key.seal(data, PLACE), bit), PLACE)


@given(length=st.integers(0, 40))
def test_bytes_cut_short_do_not_open(length: int) -> None:
    key = DataKey.generate()

    with pytest.raises(SealBroken):
        key.open(key.seal(b"thirteen bytes", PLACE)[:length], PLACE)


@pytest.mark.parametrize(
    "elsewhere",
    [place(uuid4(), 1, b"event"), place(STREAM, 2, b"event"), place(STREAM, 1, b"snapshot")],
    ids=["another stream", "another version", "another purpose"],
)
def test_sealed_bytes_do_not_open_elsewhere(elsewhere: bytes) -> None:
    key = DataKey.generate()

    with pytest.raises(SealBroken):
        key.open(key.seal(b"data", PLACE), elsewhere)


def test_every_data_key_is_another_one() -> None:
    sealed = DataKey.generate().seal(b"data", PLACE)

    with pytest.raises(SealBroken):
        DataKey.generate().open(sealed, PLACE)


def test_a_wrapped_key_opens_what_the_key_sealed() -> None:
    key = DataKey.generate()

    unwrapped = MASTER_KEY.unwrap(MASTER_KEY.wrap(key, STREAM), STREAM)

    assert unwrapped.open(key.seal(b"data", PLACE), PLACE) == b"data"


@given(bit=st.integers(0))
def test_an_altered_wrapped_key_is_refused(bit: int) -> None:
    wrapped = MASTER_KEY.wrap(DataKey.generate(), STREAM)

    with pytest.raises(SealBroken):
        MASTER_KEY.unwrap(altered(wrapped, bit), STREAM)


def test_a_wrapped_key_belongs_to_its_stream() -> None:
    with pytest.raises(SealBroken):
        MASTER_KEY.unwrap(MASTER_KEY.wrap(DataKey.generate(), STREAM), uuid4())


def test_another_master_key_does_not_unwrap() -> None:
    other = MasterKey(Secret(bytes(32)))

    with pytest.raises(SealBroken):
        other.unwrap(MASTER_KEY.wrap(DataKey.generate(), STREAM), STREAM)


def test_an_empty_wrapped_key_is_refused() -> None:
    with pytest.raises(SealBroken, match="unknown master key"):
        MASTER_KEY.unwrap(b"", STREAM)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_master_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        MasterKey(Secret(bytes(length)))


def test_keys_do_not_print() -> None:
    key = DataKey(b"k" * 32)

    assert repr(key) == str(key) == "DataKey('***')"
    assert "k" * 8 not in repr(MasterKey(Secret(b"k" * 32)))

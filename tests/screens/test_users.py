"""Configured users: hashes of passwords, and what the tables may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.screens import users
from ledger.screens.access import Role
from ledger.wire.contract import Secret
from tests.screens.people import PASSWORD, password_hash


def read(**changed):
    table = {"password": password_hash(), "role": "viewer", "accounts": ["meta-main"], **changed}
    return users.read("lee", table, ["meta-main", "sms"], Secret)


def test_a_password_matches_its_hash_and_no_other_does():
    hashed = users.parse_hash(password_hash())

    assert hashed.matches(PASSWORD)
    assert not hashed.matches(PASSWORD + " ")


def test_the_same_characters_match_however_they_are_composed():
    hashed = users.hash_password("cafe\u0301 au lait, s'il vous plait")

    assert hashed.matches("caf\u00e9 au lait, s'il vous plait")


def test_two_hashes_of_one_password_differ():
    assert str(users.hash_password(PASSWORD)) != password_hash()


def test_nobody_matches_nothing():
    assert not users.NOBODY.matches("")


@given(st.text(max_size=120) | st.lists(st.text("0123456789aA=/$", max_size=30), max_size=7).map("$".join))
def test_what_is_no_hash_is_refused_and_never_repeated(text):
    with pytest.raises(ValueError, match=r"^is not what `status-ledger users hash` prints$"):
        users.parse_hash(text)


@pytest.mark.parametrize("cost", ["9$8$2", "21$8$2", "16$0$2", "16$8$99"])
def test_a_cost_that_is_too_low_or_too_high_is_refused(cost):
    parts = password_hash().split("$")

    with pytest.raises(ValueError, match="users hash"):
        users.parse_hash("$".join(["scrypt", cost, *parts[4:]]))


def test_a_user_is_read():
    user = read()

    assert (user.name, user.role, user.accounts) == ("lee", Role.VIEWER, frozenset({"meta-main"}))
    assert read(accounts=["*"]).accounts is None


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"role": "root"}, "role must be one of viewer, auditor, operator"),
        ({"accounts": []}, "accounts must name"),
        ({"accounts": ["other"]}, "accounts: no account is called other"),
        ({"password": "secret"}, "password: is not what"),
        ({"shell": "bash"}, "unknown field `shell`"),
    ],
)
def test_a_faulty_table_is_refused_by_its_key(changed, problem):
    with pytest.raises(ValueError, match=problem) as refused:
        read(**changed)
    assert "secret" not in str(refused.value)

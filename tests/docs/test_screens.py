"""`docs/screens.md` tells of every role and every permission."""

from ledger.screens.access import PERMISSIONS, Permission, Role
from ledger.screens.search_words import NAMES
from tests.docs.documents import code, table, text_of

TEXT = text_of("docs/screens.md")


def test_roles_are_documented_as_they_are() -> None:
    rows = {code(row[0])[0]: row[1:] for row in table(TEXT, "Roles")}

    documented = {
        role: {Permission(name) for name, told in rows.items() if told[column] == "yes"}
        for column, role in enumerate(Role)
    }

    assert documented == {role: set(may) for role, may in PERMISSIONS.items()}


def test_every_word_of_the_search_is_documented_and_no_other() -> None:
    assert {f"{name}:" for name in NAMES} == {code(row[0])[0] for row in table(TEXT, "Find messages")}

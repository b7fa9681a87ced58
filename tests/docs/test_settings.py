"""`docs/settings.md` names every setting there is, with its default, and no other."""

import msgspec

from ledger import accounts_file, config
from ledger.config import RateLimit, Settings
from ledger.providers import PROVIDERS
from ledger.screens.access import Role
from ledger.screens.users import UserTable
from tests.docs.documents import code, table, text_of

TEXT = text_of("docs/settings.md")
FILE = ("accounts", "hubspot", "intercom", "users")  #: what the accounts file tells
ENVIRONMENT = {code(row[0])[0]: row for row in table(TEXT, "Environment")}
ACCOUNT = {code(row[0])[0]: row for row in table(TEXT, "Accounts")}


def shown(default: object) -> str:
    """Write a default as it would be set."""
    match default:
        case None:
            return "none"
        case RateLimit(requests, seconds):
            return f"{requests}/{seconds}"
        case _:
            return str(default)


def test_every_environment_variable_is_documented_and_no_other() -> None:
    known = {config.PREFIX + field.upper() for field in Settings.__struct_fields__ if field not in FILE}

    assert known == set(ENVIRONMENT)


def test_documented_defaults_are_those_in_force() -> None:
    fields = {field.name: field for field in msgspec.structs.fields(Settings)}

    documented = {name: row[1].strip("`") for name, row in ENVIRONMENT.items()}

    assert documented == {name: shown(fields[name.removeprefix(config.PREFIX).lower()].default) for name in ENVIRONMENT}


def test_every_documented_choice_is_accepted() -> None:
    for name, row in ENVIRONMENT.items():
        read = config._READERS[name.removeprefix(config.PREFIX).lower()]
        choices = [word for word in code(row[2]) if word.islower() and word.isalpha() and len(row[2]) < 60]
        for choice in choices:
            read(choice, {})


def test_numbers_may_be_as_documented_and_no_larger() -> None:
    bounded = {name: row[2].split(" to ") for name, row in ENVIRONMENT.items() if row[2].replace(" to ", "").isdigit()}

    for name, (low, high) in bounded.items():
        read = config._READERS[name.removeprefix(config.PREFIX).lower()]
        assert (int(low), int(high)) == (read(low, {}), read(high, {}))
        for beyond in (int(low) - 1, int(high) + 1):
            try:
                read(str(beyond), {})
            except ValueError:
                continue
            raise AssertionError(f"{name} accepts {beyond}")
    assert len(bounded) >= 4


def test_every_key_of_an_account_is_documented_and_no_other() -> None:
    assert set(accounts_file._AccountTable.__struct_fields__) == set(ACCOUNT)


def test_required_keys_of_an_account_are_documented_as_required() -> None:
    required = {field.name for field in msgspec.structs.fields(accounts_file._AccountTable) if field.required}

    assert required == {name for name, row in ACCOUNT.items() if row[1] == "required"}


def test_every_key_of_the_intercom_table_is_documented_and_no_other() -> None:
    documented = {code(row[0])[0]: row[1] for row in table(TEXT, "Intercom")}

    assert set(accounts_file._IntercomTable.__struct_fields__) == set(documented)
    assert set(documented.values()) == {"required"}


def test_every_key_of_a_user_is_documented_with_its_choices() -> None:
    documented = {code(row[0])[0]: row for row in table(TEXT, "Users")}

    assert set(UserTable.__struct_fields__) == set(documented)
    assert {*Role} <= set(code(documented["role"][2]))
    assert {row[1] for row in documented.values()} == {"required"}


def test_documented_providers_and_channels_are_those_of_the_registry() -> None:
    channels = {channel.value for provider in PROVIDERS.values() for channel in provider.channels}

    assert set(PROVIDERS) == set(code(ACCOUNT["provider"][2]))
    assert channels == set(code(ACCOUNT["channel"][2]))

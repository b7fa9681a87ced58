"""`docs/commands.md` names every command with every option, and no other."""

import argparse
from collections.abc import Iterator

import pytest

from ledger.__main__ import parser
from ledger.commands import common
from tests.docs.documents import code, headings, table, tables, text_of

TEXT = text_of("docs/commands.md")


def commands(told: argparse.ArgumentParser, *names: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command that can be run, by its full name."""
    nested = [action for action in told._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield " ".join(names), told
    for action in nested:
        for name, command in action.choices.items():
            yield from commands(command, *names, name)


COMMANDS = dict(commands(parser()))


def options(command: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return options by their long name, positional arguments by their own."""
    return {
        (action.option_strings[-1] if action.option_strings else action.dest): action
        for action in command._actions
        if not isinstance(action, argparse._HelpAction)
    }


def test_every_command_has_a_section_and_no_other() -> None:
    assert sorted(COMMANDS) == sorted(heading.strip("`") for heading in headings(TEXT)[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_documented_and_no_other(name: str) -> None:
    documented = {code(row[0])[0]: row for row in table(TEXT, f"`{name}`")}

    assert set(options(COMMANDS[name])) == set(documented)


@pytest.mark.parametrize("name", COMMANDS)
def test_required_options_and_choices_are_documented(name: str) -> None:
    documented = {code(row[0])[0]: row for row in table(TEXT, f"`{name}`")}

    for option, action in options(COMMANDS[name]).items():
        row = documented[option]
        assert (action.required and bool(action.option_strings)) is row[1].startswith("required"), option
        assert {str(choice) for choice in action.choices or ()} <= set(code(row[1])), option


def test_exit_codes_are_documented() -> None:
    assert [common.DONE, common.FAILED, common.USAGE, common.FOUND] == [int(row[0]) for row in tables(TEXT)[0][1:]]

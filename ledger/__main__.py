"""`status-ledger`: parses arguments, runs one command, turns what goes wrong into one line and an exit code."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from ledger import __version__
from ledger.commands.output import FAILED, USAGE, CommandFailed
from ledger.config import BadSettings
from ledger.store.application import Archived, StoreUnavailable, WrongSecret
from ledger.store.embedded import EmbeddedError
from ledger.store.migrations import MigrationMissing, WrittenByLater, WrongPartitionCount
from ledger.store.safety import Unsafe

#: Modules of commands, in the order of `--help`.
COMMANDS: Final = (
    "serve",
    "admin",
    "accounts",
    "keys",
    "users",
    "history",
    "poll",
    "destinations",
    "projections",
    "export",
    "recapture",
    "verify",
    "evidence",
    "erase",
    "archive",
    "simulate",
    "bench",
)
#: Said in one line: what is wrong is not the command.
_TOLD: Final = (
    Archived,
    StoreUnavailable,
    WrongSecret,
    EmbeddedError,
    MigrationMissing,
    WrongPartitionCount,
    WrittenByLater,
    Unsafe,
)
#: Commands that have a module of their own and do without all others: they run in less memory.
_ALONE: Final = ("verify",)


def parser(modules: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="status-ledger", description="What happened to a message, why, and the proof.")
    root.add_argument("--version", action="version", version=f"status-ledger {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in modules:
        import_module(f"ledger.commands.{module}").add_to(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    told = (parser(given[:1]) if given and given[0] in _ALONE else parser()).parse_args(given)
    try:
        code: int = told.run(told)
    except BadSettings as error:
        for problem in error.problems:
            print(f"status-ledger: {problem}", file=sys.stderr)  # noqa: T201
        return USAGE
    except CommandFailed as error:
        print(f"status-ledger: {error}", file=sys.stderr)  # noqa: T201
        return error.code
    except _TOLD as error:
        print(f"status-ledger: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    except (KeyboardInterrupt, BrokenPipeError):
        return FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())

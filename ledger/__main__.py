"""`status-ledger`: parses arguments, runs one command, turns what goes wrong into one line and an exit code."""

import argparse
import sys
from collections.abc import Sequence

from ledger import __version__
from ledger.commands import admin, bench, history, keys, serve, simulate
from ledger.commands.common import FAILED, USAGE, CommandFailed
from ledger.config import BadSettings
from ledger.store.application import StoreUnavailable, WrongSecret
from ledger.store.embedded import EmbeddedError
from ledger.store.migrations import MigrationMissing, WrongPartitionCount
from ledger.store.safety import Unsafe


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="status-ledger", description="What happened to a message, why, and the proof.")
    root.add_argument("--version", action="version", version=f"status-ledger {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (serve, admin, keys, history, simulate, bench):
        module.add_to(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    told = parser().parse_args(arguments)
    try:
        code: int = told.run(told)
    except BadSettings as error:
        for problem in error.problems:
            print(f"status-ledger: {problem}", file=sys.stderr)  # noqa: T201
        return USAGE
    except CommandFailed as error:
        print(f"status-ledger: {error}", file=sys.stderr)  # noqa: T201
        return error.code
    except (StoreUnavailable, WrongSecret, EmbeddedError, MigrationMissing, WrongPartitionCount, Unsafe) as error:
        print(f"status-ledger: {error}", file=sys.stderr)  # noqa: T201
        return FAILED
    except (KeyboardInterrupt, BrokenPipeError):
        return FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())

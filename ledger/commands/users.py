"""`users hash | list`."""

import argparse
import getpass
import sys
from typing import Any

from ledger import main
from ledger.commands.common import DONE, USAGE, CommandFailed, print_json, print_table
from ledger.screens import users


def add_to(commands: Any) -> None:
    parser = commands.add_parser("users", help="users of the pages: hash a password, list who is configured")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    hashing = actions.add_parser("hash", help="read a password and print what the configuration holds instead of it")
    hashing.add_argument("--json", action="store_true")
    hashing.set_defaults(run=_hash)
    listing = actions.add_parser("list", help="list configured users, their roles and accounts")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_list)


def _hash(told: argparse.Namespace) -> int:
    password = _password()
    if len(password) < users.PASSWORD_CHARACTERS_MIN:
        raise CommandFailed(f"a password has at least {users.PASSWORD_CHARACTERS_MIN} characters", USAGE)
    if len(password.encode("utf-8", "surrogatepass")) > users.PASSWORD_BYTES_MAX:
        raise CommandFailed(f"a password has at most {users.PASSWORD_BYTES_MAX} bytes", USAGE)
    hashed = str(users.hash_password(password))
    if told.json:
        print_json({"password": hashed})
    else:
        print(hashed)
    return DONE


def _password() -> str:
    """Read a password: twice from a terminal, where nobody sees it; else one line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise CommandFailed("the two are not the same", USAGE)
    return password


def _list(told: argparse.Namespace) -> int:
    shown = [
        (user.name, user.role.value, [users.ALL_ACCOUNTS] if user.accounts is None else sorted(user.accounts))
        for user in main.read().users.values()
    ]
    if told.json:
        print_json({"items": [{"name": name, "role": role, "accounts": seen} for name, role, seen in shown]})
    else:
        print_table(("NAME", "ROLE", "ACCOUNTS"), [(name, role, ", ".join(seen)) for name, role, seen in shown])
    return DONE

"""`keys create | list | rotate | revoke`."""

import argparse
from typing import Any

from ledger import main
from ledger.commands.common import DONE, USAGE, CommandFailed, parts, print_json, print_table
from ledger.domain.status import Channel, Style
from ledger.http.problems import timestamp
from ledger.providers import PROVIDERS
from ledger.store.keys import ApiKey, UnknownKey


def add_to(commands: Any) -> None:
    keys = commands.add_parser("keys", help="create, list, rotate and revoke API keys")
    actions = keys.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser("create", help="make a key; it is shown once")
    create.add_argument("--account", required=True)
    create.add_argument("--channel", required=True, choices=[channel.value for channel in Channel])
    create.add_argument("--status-style", default=Style.UNIFIED.value, choices=[style.value for style in Style])
    create.add_argument("--json", action="store_true")
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", help="list keys, ended ones included")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_list)
    for name, run, text in (
        ("rotate", _rotate, "replace a key; holders of the old one are told that it is deprecated"),
        ("revoke", _revoke, "withdraw a key"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("id")
        action.add_argument("--json", action="store_true")
        action.set_defaults(run=run)


def _create(told: argparse.Namespace) -> int:
    settings = main.settings()
    account = settings.accounts.get(told.account)
    if account is None:
        raise CommandFailed(f"no account {told.account!r} in {settings.config}", USAGE)
    channel = Channel(told.channel)
    if channel not in PROVIDERS[account.provider].channels:
        raise CommandFailed(f"provider {account.provider} has no channel {channel}", USAGE)
    with parts(told=settings) as built:
        key, secret = built.keys.create(account.name, channel, Style(told.status_style))
    _show_secret(key, secret, told.json)
    return DONE


def _list(told: argparse.Namespace) -> int:
    with parts() as built:
        keys = built.keys.all()
    if told.json:
        print_json({"items": [_listed(key) for key in keys]})
    else:
        print_table(
            ("ID", "ACCOUNT", "CHANNEL", "STYLE", "STATE", "CREATED"),
            [
                (key.id, key.account, key.channel, key.status_style, key.state, timestamp(key.created_at))
                for key in keys
            ],
        )
    return DONE


def _rotate(told: argparse.Namespace) -> int:
    with parts() as built:
        try:
            key, secret = built.keys.rotate(told.id)
        except UnknownKey:
            raise CommandFailed(f"no active key {told.id}") from None
    _show_secret(key, secret, told.json)
    return DONE


def _revoke(told: argparse.Namespace) -> int:
    with parts() as built:
        try:
            key = built.keys.revoke(told.id)
        except UnknownKey:
            raise CommandFailed(f"no active key {told.id}") from None
    if told.json:
        print_json(_listed(key))
    else:
        print(f"revoked {key.id}")
    return DONE


def _listed(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "account": key.account,
        "channel": key.channel.value,
        "status_style": key.status_style.value,
        "state": key.state.value,
        "created_at": timestamp(key.created_at),
        "ended_at": timestamp(key.ended_at) if key.ended_at else None,
        "replaced_by": key.replaced_by,
    }


def _show_secret(key: ApiKey, secret: str, as_json: bool) -> None:
    shown = {
        "id": key.id,
        "key": secret,
        "account": key.account,
        "channel": key.channel.value,
        "status_style": key.status_style.value,
        "created_at": timestamp(key.created_at),
    }
    if as_json:
        print_json(shown)
    else:
        print(f"{secret}\n{key.id}: account {key.account}, channel {key.channel}. The key is not shown again.")

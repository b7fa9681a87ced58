"""`migrate`, `doctor`, `config`, `secrets generate`."""

import argparse
import base64
import os
from typing import Any

import msgspec
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger import main
from ledger.commands.common import DONE, FOUND, USAGE, CommandFailed, migrate, parts, print_json, print_table
from ledger.commands.output import progress
from ledger.config import PREFIX, Settings
from ledger.outbound.hubspot.settings import HubspotSettings
from ledger.screens.users import ALL_ACCOUNTS, User
from ledger.store import embedded, safety
from ledger.store.application import WrongSecret
from ledger.surfaces.intercom import IntercomSettings
from ledger.wire.contract import Polling

_STARS = "***"


def add_to(commands: Any) -> None:
    migration = commands.add_parser("migrate", help="apply database migrations")
    migration.add_argument("--json", action="store_true")
    migration.set_defaults(run=_migrate)
    doctor = commands.add_parser("doctor", help="look for what is wrong; exits 3 if something is")
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(run=_doctor)
    config = commands.add_parser("config", help="print the settings, secrets as stars")
    config.add_argument("--json", action="store_true")
    config.set_defaults(run=_config)
    secrets = commands.add_parser("secrets", help="make secrets for a deployment")
    actions = secrets.add_subparsers(metavar="ACTION", required=True)
    rotate = actions.add_parser("rotate", help="wrap every data key by LEDGER_MASTER_KEY, in place of another one")
    rotate.add_argument("--json", action="store_true")
    rotate.set_defaults(run=_rotate)
    generate = actions.add_parser("generate", help="print a new pair")
    generate.add_argument("--json", action="store_true")
    generate.set_defaults(run=_generate)


def _migrate(told: argparse.Namespace) -> int:
    settings = main.read()
    with main.database(settings) as url:
        applied = migrate(url, settings.partitions)
    if told.json:
        print_json({"applied": applied})
    else:
        print("\n".join(f"applied {name}" for name in applied) or "nothing to apply")
    return DONE


def _doctor(told: argparse.Namespace) -> int:
    settings = main.settings()
    with main.database(settings) as url:
        if settings.is_embedded:
            migrate(url, settings.partitions)
        findings = safety.inspect(url, settings.partitions)
        if all(finding.ok for finding in findings):
            findings.append(_secrets(settings, url))
        if all(finding.ok for finding in findings):
            findings.append(_erasures(settings, url))
    accounts = f"{len(settings.accounts)} configured"
    findings.append(safety.Finding("accounts", bool(settings.accounts), accounts))
    if told.json:
        print_json({"ok": all(finding.ok for finding in findings), "findings": findings})
    else:
        print_table(("", "CHECK", "FOUND"), [("ok" if f.ok else "!!", f.name, f.detail) for f in findings])
    return DONE if all(finding.ok for finding in findings) else FOUND


def _secrets(settings: Settings, url: str) -> safety.Finding:
    try:
        main.build(settings, url, pool_size=1).close()
    except WrongSecret as error:
        return safety.Finding("secrets", False, str(error))
    return safety.Finding("secrets", True, "those that this database was written under")


def _erasures(settings: Settings, url: str) -> safety.Finding:
    built = main.build(settings, url, pool_size=1)
    try:
        missing = len(built.eraser().missing())
    except (OSError, msgspec.DecodeError) as error:
        return safety.Finding("erasures", False, f"{settings.erasures_file} cannot be read ({type(error).__name__})")
    finally:
        built.close()
    told = f"{missing} on the list are not in this database: run `status-ledger erase --replay`"
    return safety.Finding("erasures", missing == 0, told if missing else "all on the list are in this database")


def _config(told: argparse.Namespace) -> int:
    shown = redacted(main.read())
    if told.json:
        print_json(shown)
        return DONE
    accounts = shown.pop("accounts")
    print_table(("SETTING", "VALUE"), [(f"{PREFIX}{name.upper()}", value) for name, value in shown.items()])
    if accounts:
        print()
        print_table(
            ("ACCOUNT", "PROVIDER", "CHANNEL", "PUBLIC URL", "SECRETS"),
            [
                (name, account["provider"], account["channel"], account["public_url"], len(account["secrets"]))
                for name, account in accounts.items()
            ],
        )
    return DONE


def redacted(settings: Settings) -> dict[str, Any]:
    """Return the settings with every secret as stars."""
    limit = settings.rate_limit
    return {
        "database_url": _database_url(settings),
        "data_dir": str(settings.data_dir),
        "host": settings.host,
        "port": settings.port,
        "workers": settings.workers,
        "partitions": settings.partitions,
        "evidence": settings.evidence,
        "body_bytes_max": settings.body_bytes_max,
        "queue_max": settings.queue_max,
        "rate_limit": f"{limit.requests}/{limit.seconds}" if limit else "off",
        "public_url": settings.public_url,
        "streams_max": settings.streams_max,
        "stream_pulse_seconds": settings.stream_pulse_seconds,
        "outbound_allow": [str(network) for network in settings.outbound_allow or ()],
        "log_format": settings.log_format,
        "log_level": settings.log_level,
        "master_key": _STARS if settings.master_key else None,
        "deployment_secret": _STARS if settings.deployment_secret else None,
        "master_key_other": _STARS if settings.master_key_other else None,
        "signing_key": _STARS if settings.signing_key else None,
        "checkpoints": settings.checkpoints_place,
        "checkpoint_receivers": [_STARS for _ in settings.checkpoint_receivers or ()],
        "erasures": str(settings.erasures_file),
        "config": str(settings.config),
        "intercom": _intercom(settings.intercom),
        "accounts": {
            account.name: {
                "provider": account.provider,
                "channel": account.channel.value,
                "secrets": [_STARS for _ in account.secrets],
                "verify_token": _STARS if account.verify_token else None,
                "public_url": account.public_url,
                "conflicts": account.conflicts,
                "expected_seconds": account.expected_seconds,
                "options": msgspec.to_builtins(account.options) if account.options is not None else {},
                "poll": _polling(account.poll),
            }
            for account in settings.accounts.values()
        },
        "hubspot": {each.account: _timeline(each) for each in settings.hubspot},
        "users": {name: _user(user) for name, user in settings.users.items()},
    }


def _timeline(told: HubspotSettings) -> dict[str, Any]:
    shown = {name: getattr(told, name) for name in told.__struct_fields__ if name != "account"}
    return {
        **shown,
        "client_secret": _STARS,
        "refresh_token": _STARS,
        "time_zone": told.time_zone.key,
    }


def _user(user: User) -> dict[str, Any]:
    accounts = [ALL_ACCOUNTS] if user.accounts is None else sorted(user.accounts)
    return {"password": _STARS, "role": user.role.value, "accounts": accounts}


def _polling(polling: Polling | None) -> dict[str, Any] | None:
    """Return how an account's provider is asked, with what it is called with as stars."""
    if polling is None:
        return None
    shown = {name: getattr(polling, name) for name in polling.__struct_fields__}
    return shown | {"secret": _STARS, "user": _STARS if polling.user else None}


def _intercom(intercom: IntercomSettings | None) -> dict[str, Any] | None:
    if intercom is None:
        return None
    workspaces = {workspace: list(accounts) for workspace, accounts in intercom.workspaces.items()}
    return {"secrets": [_STARS for _ in intercom.secrets], "workspaces": workspaces}


def _database_url(settings: Settings) -> str | None:
    """Return the embedded server's URL as usable, another one with its password as stars."""
    if settings.database_url is None:
        return embedded.running_url(settings.data_dir)
    url = settings.database_url.reveal().decode()
    told: dict[str, Any] = dict(conninfo_to_dict(url))
    password = told.get("password")
    if password is None:
        return url
    if f":{password}@" in url:
        return url.replace(f":{password}@", f":{_STARS}@", 1)
    return make_conninfo(**{**told, "password": _STARS})


def _rotate(told: argparse.Namespace) -> int:
    settings = main.settings()
    if settings.master_key_other is None:
        raise CommandFailed(f"{PREFIX}MASTER_KEY_OTHER is not set: it is the key to replace", USAGE)
    with parts(told=settings) as built, progress("keys") as show:
        rotated = built.rotate_master_key(show)
    if told.json:
        print_json({"rotated": rotated})
    else:
        print("\n".join(f"{table}: {count} keys wrapped anew" for table, count in rotated.items()))
        print(f"Nothing is wrapped by the other key any more: take {PREFIX}MASTER_KEY_OTHER away.")
    return DONE


def _generate(told: argparse.Namespace) -> int:
    pair = {
        f"{PREFIX}MASTER_KEY": base64.b64encode(os.urandom(32)).decode(),
        f"{PREFIX}DEPLOYMENT_SECRET": base64.b64encode(os.urandom(32)).decode(),
    }
    if told.json:
        print_json(pair)
    else:
        print("\n".join(f"{name}={value}" for name, value in pair.items()))
    return DONE

"""`migrate`, `doctor`, `config`, `secrets generate`."""

import argparse
import base64
import os
from typing import Any

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ledger import main
from ledger.commands.common import DONE, FOUND, migrate, print_json, print_table
from ledger.config import PREFIX, Settings
from ledger.store import embedded, safety
from ledger.store.application import WrongSecret

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
    generate = secrets.add_subparsers(metavar="ACTION", required=True).add_parser("generate", help="print a new pair")
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
        "log_format": settings.log_format,
        "log_level": settings.log_level,
        "master_key": _STARS if settings.master_key else None,
        "deployment_secret": _STARS if settings.deployment_secret else None,
        "config": str(settings.config),
        "accounts": {
            account.name: {
                "provider": account.provider,
                "channel": account.channel.value,
                "secrets": [_STARS for _ in account.secrets],
                "verify_token": _STARS if account.verify_token else None,
                "public_url": account.public_url,
                "conflicts": account.conflicts,
            }
            for account in settings.accounts.values()
        },
    }


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

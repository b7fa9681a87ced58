"""Settings: read once, typed, frozen.

Environment variables named `LEDGER_*` and one TOML file for accounts. Unknown names and bad values stop the start; they
are named, and their values are never echoed. Secrets print as stars.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from ledger import accounts_file
from ledger.accounts_file import AccountsFile
from ledger.outbound.guard import Network, networks
from ledger.outbound.hubspot.settings import HubspotSettings
from ledger.screens.users import User
from ledger.surfaces.intercom import IntercomSettings
from ledger.values import decode_key, public_url, resolve
from ledger.wire.contract import Account, Provider, Secret

PREFIX: Final = "LEDGER_"
PARTITIONS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class BadSettings(ValueError):
    """The settings cannot be used; every problem is listed by the name of its setting."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class RateLimit(msgspec.Struct, frozen=True):
    requests: int
    seconds: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. `docs/settings.md` describes each; a test compares the two."""

    database_url: Secret | None = None
    data_dir: Path = Path(".ledger")
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    partitions: int = 1
    evidence: str = "full"
    body_bytes_max: int = 4 * 1024 * 1024
    queue_max: int = 10_000
    rate_limit: RateLimit | None = RateLimit(1_000, 1)
    streams_max: int = 10_000
    stream_pulse_seconds: int = 15
    public_url: str | None = None
    outbound_allow: tuple[Network, ...] | None = None
    log_format: str = "json"
    log_level: str = "info"
    master_key: Secret | None = None
    deployment_secret: Secret | None = None
    master_key_other: Secret | None = None
    signing_key: Secret | None = None
    checkpoints: str | None = None
    checkpoint_receivers: tuple[Secret, ...] | None = None
    erasures: Path | None = None
    config: Path = Path("ledger.toml")
    accounts: Mapping[str, Account] = {}
    intercom: IntercomSettings | None = None
    hubspot: tuple[HubspotSettings, ...] = ()
    users: Mapping[str, User] = {}

    @property
    def is_embedded(self) -> bool:
        return self.database_url is None

    @property
    def own_url(self) -> str:
        """The address at which providers and people reach this service."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def checkpoints_place(self) -> str:
        """Where checkpoints go outside of the database: a file, or a directory if it ends in a slash."""
        return self.checkpoints or str(self.data_dir / "checkpoints.txt")

    @property
    def erasures_file(self) -> Path:
        """The list of erasures outside of the database."""
        return self.erasures or self.data_dir / "erasures.jsonl"

    @property
    def keeps_items(self) -> bool:
        return self.evidence == "full"


def load(environ: Mapping[str, str], providers: Mapping[str, Provider]) -> Settings:
    """Read the environment and the accounts file. Raises BadSettings with every problem found."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        field = name.removeprefix(PREFIX).lower()
        read = _READERS.get(field)
        if read is None:
            problems.append(f"{name}: no such setting")
            continue
        if text == "":
            continue
        try:
            values[field] = read(text, environ)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if environ.get("POSTGRES_ENABLE_DB_FUNCTIONS", "").lower() in ("y", "yes", "t", "true", "on", "1"):
        problems.append("POSTGRES_ENABLE_DB_FUNCTIONS: loses events for readers; unset it")
    settings = Settings(**values)
    if "config" in values and not settings.config.exists():
        problems.append(f"{PREFIX}CONFIG: file {settings.config} does not exist")
    file = accounts_file.read(settings.config, environ, providers, settings.own_url, problems)
    if settings.database_url is not None:
        problems.extend(
            f"{PREFIX}{name.upper()}: required with {PREFIX}DATABASE_URL; `status-ledger secrets generate` prints one"
            for name in ("master_key", "deployment_secret")
            if getattr(settings, name) is None
        )
    if problems:
        raise BadSettings(problems)
    told = {name: getattr(file, name) for name in AccountsFile.__struct_fields__}
    return msgspec.structs.replace(settings, **told)


# Readers --------------------------------------------------------------------------------------------------------------

_Reader = Callable[[str, Mapping[str, str]], Any]


def _integer(low: int, high: int) -> _Reader:
    def read(text: str, _: Mapping[str, str]) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def _one_of(*allowed: str) -> _Reader:
    def read(text: str, _: Mapping[str, str]) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return read


def _partitions(text: str, _: Mapping[str, str]) -> int:
    if text not in map(str, PARTITIONS):
        raise ValueError(f"must be one of {', '.join(map(str, PARTITIONS))}")
    return int(text)


def _rate_limit(text: str, _: Mapping[str, str]) -> RateLimit | None:
    if text == "off":
        return None
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,6})", text)
    if not match or int(match[1]) < 1 or int(match[2]) < 1:
        raise ValueError('must be "N/seconds", both at least 1, or "off"')
    return RateLimit(int(match[1]), int(match[2]))


def _database_url(text: str, environ: Mapping[str, str]) -> Secret:
    secret = resolve(text, environ)
    try:
        conninfo_to_dict(secret.reveal().decode())
    except (ProgrammingError, UnicodeDecodeError):
        raise ValueError("must be a PostgreSQL connection URL") from None
    return secret


def _receiver(url: str) -> str:
    """Return an address without its last slash. It may hold a token: it is a secret, and is never echoed."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("must be URLs, divided by blanks") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("must be http:// or https:// URLs, divided by blanks")
    return url.rstrip("/")


_READERS: Final[dict[str, _Reader]] = {
    "database_url": _database_url,
    "data_dir": lambda text, _: Path(text),
    "host": lambda text, _: text,
    "port": _integer(0, 65_535),
    "workers": _integer(1, 64),
    "partitions": _partitions,
    "evidence": _one_of("full", "digest"),
    "body_bytes_max": _integer(1_024, 64 * 1024 * 1024),
    "queue_max": _integer(1, 1_000_000),
    "rate_limit": _rate_limit,
    "streams_max": _integer(1, 100_000),
    "stream_pulse_seconds": _integer(1, 300),
    "public_url": lambda text, _: public_url(text).rstrip("/"),
    "outbound_allow": lambda text, _: networks(text),
    "log_format": _one_of("json", "console"),
    "log_level": _one_of("debug", "info", "warning", "error"),
    "master_key": lambda text, environ: decode_key(resolve(text, environ), 32, 32),
    "deployment_secret": lambda text, environ: decode_key(resolve(text, environ), 16, 64),
    "master_key_other": lambda text, environ: decode_key(resolve(text, environ), 32, 32),
    "signing_key": lambda text, environ: decode_key(resolve(text, environ), 32, 32),
    "checkpoints": lambda text, _: text,
    "checkpoint_receivers": lambda text, _: tuple(Secret(_receiver(url)) for url in text.split()),
    "erasures": lambda text, _: Path(text),
    "config": lambda text, _: Path(text),
}

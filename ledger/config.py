"""Settings: read once, typed, frozen.

Environment variables named `LEDGER_*` and one TOML file for accounts. Unknown names and bad values stop the start; they
are named, and their values are never echoed. Secrets print as stars.
"""

import base64
import binascii
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from ledger.domain.status import Channel
from ledger.outbound.guard import Network, networks
from ledger.outbound.hubspot import settings as hubspot
from ledger.outbound.hubspot.settings import HubspotSettings
from ledger.screens import users
from ledger.screens.users import User
from ledger.surfaces.intercom import IntercomSettings
from ledger.wire.contract import Account, Polling, Provider, Secret

T = TypeVar("T")

PREFIX: Final = "LEDGER_"
ACCOUNT_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
_EXPECTED_SECONDS_MAX: Final = 30 * 24 * 3_600
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
    told = "config" in values
    file = _file(settings, problems, must_exist=told)
    accounts = _accounts(file, settings, environ, providers, problems)
    intercom = None
    if file.intercom is not None:
        try:
            intercom = _intercom(file.intercom, environ, accounts)
        except ValueError as error:
            problems.append(f"{settings.config}: intercom: {error}")
    timelines = _hubspot(file, environ, accounts, settings, problems)
    people = _users(file, environ, accounts, settings, problems)
    if settings.database_url is not None:
        problems.extend(
            f"{PREFIX}{name.upper()}: required with {PREFIX}DATABASE_URL; `status-ledger secrets generate` prints one"
            for name in ("master_key", "deployment_secret")
            if getattr(settings, name) is None
        )
    if problems:
        raise BadSettings(problems)
    return msgspec.structs.replace(settings, accounts=accounts, intercom=intercom, hubspot=timelines, users=people)


# Values ---------------------------------------------------------------------------------------------------------------


def resolve(text: str, environ: Mapping[str, str]) -> Secret:
    """Return a secret given literally, as `env:NAME` or as `file:PATH`. Raises ValueError without the value."""
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise ValueError(f"environment variable {name} is not set")
        return Secret(environ[name])
    if text.startswith("file:"):
        path = Path(text.removeprefix("file:"))
        try:
            content = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"file {path} cannot be read") from None
        if not content:
            raise ValueError(f"file {path} is empty")
        return Secret(content)
    if not text:
        raise ValueError("is empty")
    return Secret(text)


def decode_key(secret: Secret, bytes_min: int, bytes_max: int) -> Secret:
    """Return the bytes of a base64 secret. Raises ValueError for another alphabet or length."""
    try:
        raw = base64.b64decode(secret.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if not bytes_min <= len(raw) <= bytes_max:
        bound = f"{bytes_min}" if bytes_min == bytes_max else f"{bytes_min} to {bytes_max}"
        raise ValueError(f"must be the base64 form of {bound} bytes")
    return Secret(raw)


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
    "public_url": lambda text, _: _public_url(text).rstrip("/"),
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


# Surfaces -------------------------------------------------------------------------------------------------------------


def _intercom(table: dict[str, Any], environ: Mapping[str, str], accounts: Mapping[str, Account]) -> IntercomSettings:
    told = msgspec.convert(table, _IntercomTable)
    if not told.secrets:
        raise ValueError("secrets must not be empty: nothing could be authenticated")
    for workspace, named in told.workspaces.items():
        if not named:
            raise ValueError(f"workspaces.{workspace}: must name at least one account")
        unknown = [name for name in named if name not in accounts]
        if unknown:
            raise ValueError(f"workspaces.{workspace}: no account is called {', '.join(unknown)}")
    return IntercomSettings(
        secrets=tuple(_named("secrets", resolve, secret, environ) for secret in told.secrets),
        workspaces={workspace: tuple(named) for workspace, named in told.workspaces.items()},
    )


# Accounts -------------------------------------------------------------------------------------------------------------


class _AccountTable(msgspec.Struct, forbid_unknown_fields=True):
    """One `[accounts.NAME]` table."""

    provider: str
    channel: str
    secrets: list[str]
    verify_token: str | None = None
    public_url: str | None = None
    conflicts: str = "keep"
    expected_seconds: int | None = None
    poll: dict[str, Any] = {}  #: how the provider is asked; absent: it is not
    options: dict[str, Any] = {}  #: of the provider's own kind


class _IntercomTable(msgspec.Struct, forbid_unknown_fields=True):
    """The `[intercom]` table."""

    secrets: list[str]
    workspaces: dict[str, list[str]]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    accounts: dict[str, dict[str, Any]] = {}
    intercom: dict[str, Any] | None = None
    hubspot: dict[str, dict[str, Any]] = {}  #: by account
    users: dict[str, dict[str, Any]] = {}


def _file(settings: Settings, problems: list[str], *, must_exist: bool) -> _File:
    path = settings.config
    if not path.exists():
        if must_exist:
            problems.append(f"{PREFIX}CONFIG: file {path} does not exist")
        return _File()
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        where = re.search(r"\(at [^)]*\)", str(error))
        problems.append(f"{path}: not readable as TOML{' ' + where[0] if where else ''}")
    except msgspec.ValidationError as error:
        problems.append(f"{path}: {error}")
    return _File()


def _hubspot(
    file: _File,
    environ: Mapping[str, str],
    accounts: Mapping[str, Account],
    settings: Settings,
    problems: list[str],
) -> tuple[HubspotSettings, ...]:
    read = []
    for name, table in file.hubspot.items():
        try:
            if name not in accounts:
                raise ValueError("there is no account of this name")
            read.append(hubspot.read(name, table, lambda text: resolve(text, environ)))
        except ValueError as error:
            problems.append(f"{settings.config}: hubspot.{name}: {error}")
    return tuple(read)


def _users(
    file: _File,
    environ: Mapping[str, str],
    accounts: Mapping[str, Account],
    settings: Settings,
    problems: list[str],
) -> dict[str, User]:
    people = {}
    for name, table in file.users.items():
        try:
            people[name] = users.read(name, table, accounts, lambda text: resolve(text, environ))
        except ValueError as error:
            problems.append(f"{settings.config}: users.{name}: {error}")
    return people


def _accounts(
    file: _File,
    settings: Settings,
    environ: Mapping[str, str],
    providers: Mapping[str, Provider],
    problems: list[str],
) -> dict[str, Account]:
    accounts = {}
    for name, table in file.accounts.items():
        try:
            accounts[name] = _account(name, table, settings, environ, providers)
        except ValueError as error:
            problems.append(f"{settings.config}: accounts.{name}: {error}")
    return accounts


def _account(
    name: str,
    table: dict[str, Any],
    settings: Settings,
    environ: Mapping[str, str],
    providers: Mapping[str, Provider],
) -> Account:
    if not ACCOUNT_NAME.fullmatch(name):
        raise ValueError("the name must be 1 to 40 of a-z, 0-9 and -")
    told = msgspec.convert(table, _AccountTable)
    provider = providers.get(told.provider)
    if provider is None:
        raise ValueError(f"provider must be one of {', '.join(providers)}")
    if told.channel not in provider.channels:
        raise ValueError(f"channel must be one of {', '.join(sorted(provider.channels))} for this provider")
    if not told.secrets and provider.needs_secrets:
        raise ValueError("secrets must not be empty: nothing could be authenticated")
    if told.conflicts not in ("keep", "delivery-wins"):
        raise ValueError('conflicts must be "keep" or "delivery-wins"')
    if told.expected_seconds is not None and not 60 <= told.expected_seconds <= _EXPECTED_SECONDS_MAX:
        raise ValueError(f"expected_seconds must be from 60 to {_EXPECTED_SECONDS_MAX}")
    return Account(
        name=name,
        provider=told.provider,
        channel=Channel(told.channel),
        secrets=tuple(_named("secrets", resolve, secret, environ) for secret in told.secrets),
        verify_token=None if told.verify_token is None else _named("verify_token", resolve, told.verify_token, environ),
        public_url=_named("public_url", _callback_url, told.public_url or _default_url(settings, name), environ),
        conflicts=told.conflicts,
        expected_seconds=told.expected_seconds,
        options=_options(told.options, provider.options),
        poll=_polling(told.poll, provider, environ) if told.poll else None,
    )


def _options(table: dict[str, Any], kind: type[msgspec.Struct] | None) -> msgspec.Struct | None:
    """Return a provider's own options. Raises ValueError that names the option and never its value."""
    if kind is None:
        if table:
            raise ValueError("options: this provider has none")
        return None
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `")
        if problem.startswith("Invalid enum value"):  # the one text of msgspec's that quotes a value
            problem = "is not one of the values this option may have"
        where = place.removeprefix("key` in `").removeprefix("key in `").strip("`").removeprefix("$")
        raise ValueError(f"options{where}: {problem}") from None


class _PollTable(msgspec.Struct, forbid_unknown_fields=True):
    """One `[accounts.NAME.poll]` table."""

    secret: str
    user: str | None = None
    account: str | None = None
    base_url: str | None = None
    rate: float = 5.0
    concurrency: int = 4
    timeout_seconds: float = 10.0
    days: int = 14
    walks: bool = True


#: What numbers of a `poll` table may be.
POLL_BOUNDS: Final[dict[str, tuple[float, float]]] = {
    "rate": (0.01, 1_000),
    "concurrency": (1, 64),
    "timeout_seconds": (1, 20),
    "days": (1, 30),
}


def _polling(table: dict[str, Any], provider: Provider, environ: Mapping[str, str]) -> Polling:
    """Return how an account's provider is asked. Raises ValueError that names the key and never its value."""
    if provider.polls is None:
        raise ValueError("poll: this provider cannot be asked")
    try:
        told = msgspec.convert(table, _PollTable)
    except msgspec.ValidationError as error:
        raise ValueError(f"poll: {error}") from None
    for name, (low, high) in POLL_BOUNDS.items():
        if not low <= getattr(told, name) <= high:
            raise ValueError(f"poll.{name}: must be from {low} to {high:g}")
    names: dict[str, str | None] = {}
    for name in ("user", "account"):
        given = getattr(told, name)
        names[name] = None if given is None else _named(f"poll.{name}", resolve, given, environ).reveal().decode()
        if given is None and name in provider.polls.needs:
            raise ValueError(f"poll.{name}: required for this provider")
    return Polling(
        base_url=_named("poll.base_url", _base_url, told.base_url or provider.polls.base_url, environ),
        secret=_named("poll.secret", resolve, told.secret, environ),
        **names,
        rate=told.rate,
        concurrency=told.concurrency,
        timeout_seconds=told.timeout_seconds,
        days=told.days,
        walks=told.walks,
    )


def _base_url(text: str, _: Mapping[str, str]) -> str:
    """Return the address that questions go to; without TLS only on this machine, where nobody can listen."""
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    is_local = host in ("127.0.0.1", "::1", "localhost")
    if not host or (parts.scheme != "https" and not (parts.scheme == "http" and is_local)):
        raise ValueError("must start with https:// and name a host; http:// is for this machine only")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must have no user info, query or fragment")
    return text.rstrip("/")


def _default_url(settings: Settings, account: str) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = settings.public_url or f"http://{host}:{settings.port}"
    return f"{base}/webhooks/{account}"


def _callback_url(text: str, _: Mapping[str, str]) -> str:
    return _public_url(text)


def _named(field: str, read: Callable[[str, Mapping[str, str]], T], text: str, environ: Mapping[str, str]) -> T:
    try:
        return read(text, environ)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _public_url(url: str) -> str:
    """Return the URL without user info and fragment, which providers neither send nor sign."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must start with http:// or https:// and name a host")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))

"""The accounts file: accounts and how their providers are asked, Intercom, HubSpot, people who sign in. TOML.

Unknown names and bad values are named, with the table that they stand in; values are never echoed.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from ledger.domain.status import Channel
from ledger.outbound.hubspot import settings as hubspot
from ledger.outbound.hubspot.settings import HubspotSettings
from ledger.screens import users
from ledger.screens.users import User
from ledger.surfaces.intercom import IntercomSettings
from ledger.values import named, public_url, resolve
from ledger.wire.contract import Account, Polling, Provider, Secret

ACCOUNT_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
_EXPECTED_SECONDS_MAX: Final = 30 * 24 * 3_600


class AccountsFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says."""

    accounts: Mapping[str, Account] = {}
    intercom: IntercomSettings | None = None
    hubspot: tuple[HubspotSettings, ...] = ()
    users: Mapping[str, User] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    accounts: dict[str, dict[str, Any]] = {}
    intercom: dict[str, Any] | None = None
    hubspot: dict[str, dict[str, Any]] = {}  #: by account
    users: dict[str, dict[str, Any]] = {}


def read(
    path: Path, environ: Mapping[str, str], providers: Mapping[str, Provider], base_url: str, problems: list[str]
) -> AccountsFile:
    """Read the file, which need not exist, and add every problem to the list.

    `base_url`: the service's own address, at which accounts without a `public_url` are called back.
    """
    told = _tables(path, problems)
    accounts: dict[str, Account] = {}
    timelines: list[HubspotSettings] = []
    people: dict[str, User] = {}
    intercom = None

    @contextmanager
    def reading(place: str) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            problems.append(f"{path}: {place}: {error}")

    def secret(text: str) -> Secret:
        return resolve(text, environ)

    for name, table in told.accounts.items():
        with reading(f"accounts.{name}"):
            accounts[name] = _account(name, table, environ, providers, f"{base_url}/webhooks/{name}")
    if told.intercom is not None:
        with reading("intercom"):
            intercom = _intercom(told.intercom, environ, accounts)
    for name, table in told.hubspot.items():
        with reading(f"hubspot.{name}"):
            if name not in accounts:
                raise ValueError("there is no account of this name")
            timelines.append(hubspot.read(name, table, secret))
    for name, table in told.users.items():
        with reading(f"users.{name}"):
            people[name] = users.read(name, table, accounts, secret)
    return AccountsFile(accounts=accounts, intercom=intercom, hubspot=tuple(timelines), users=people)


def _tables(path: Path, problems: list[str]) -> _File:
    if not path.exists():
        return _File()
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        where = re.search(r"\(at [^)]*\)", str(error))
        problems.append(f"{path}: not readable as TOML{' ' + where[0] if where else ''}")
    except msgspec.ValidationError as error:
        problems.append(f"{path}: {error}")
    return _File()


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


def _account(
    name: str,
    table: dict[str, Any],
    environ: Mapping[str, str],
    providers: Mapping[str, Provider],
    default_url: str,
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
        secrets=tuple(named("secrets", resolve, secret, environ) for secret in told.secrets),
        verify_token=None if told.verify_token is None else named("verify_token", resolve, told.verify_token, environ),
        public_url=named("public_url", lambda url, _: public_url(url), told.public_url or default_url, environ),
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


# Polling --------------------------------------------------------------------------------------------------------------


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
        names[name] = None if given is None else named(f"poll.{name}", resolve, given, environ).reveal().decode()
        if given is None and name in provider.polls.needs:
            raise ValueError(f"poll.{name}: required for this provider")
    return Polling(
        base_url=named("poll.base_url", _base_url, told.base_url or provider.polls.base_url, environ),
        secret=named("poll.secret", resolve, told.secret, environ),
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


# Intercom -------------------------------------------------------------------------------------------------------------


class _IntercomTable(msgspec.Struct, forbid_unknown_fields=True):
    """The `[intercom]` table."""

    secrets: list[str]
    workspaces: dict[str, list[str]]


def _intercom(table: dict[str, Any], environ: Mapping[str, str], accounts: Mapping[str, Account]) -> IntercomSettings:
    told = msgspec.convert(table, _IntercomTable)
    if not told.secrets:
        raise ValueError("secrets must not be empty: nothing could be authenticated")
    for workspace, members in told.workspaces.items():
        if not members:
            raise ValueError(f"workspaces.{workspace}: must name at least one account")
        unknown = [name for name in members if name not in accounts]
        if unknown:
            raise ValueError(f"workspaces.{workspace}: no account is called {', '.join(unknown)}")
    return IntercomSettings(
        secrets=tuple(named("secrets", resolve, secret, environ) for secret in told.secrets),
        workspaces={workspace: tuple(members) for workspace, members in told.workspaces.items()},
    )

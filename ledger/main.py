"""Builds everything. The only reader of the environment; holds no logic of its own."""

import base64
import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from ledger.config import BadSettings, Settings, decode_key, load
from ledger.domain.identity import Names
from ledger.http.access import Access
from ledger.http.api import NativeApi
from ledger.http.app import Application
from ledger.http.app import build as build_http
from ledger.http.compat import CompatApi
from ledger.http.edge import Edge
from ledger.http.health import Health
from ledger.http.webhooks import Webhooks
from ledger.ingest.accept import intakes
from ledger.ingest.writer import Deliver, Writer
from ledger.providers import PROVIDERS
from ledger.store import embedded
from ledger.store.application import Ledger
from ledger.store.keys import ApiKeys
from ledger.store.rate_limits import RateLimiter
from ledger.store.sealing import MasterKey
from ledger.wire.contract import Secret
from projections import current_status

OnEvent = Callable[[str, dict[str, object]], None]


class Parts(msgspec.Struct, frozen=True):
    """What commands and the HTTP application are made of."""

    settings: Settings
    names: Names
    ledger: Ledger
    keys: ApiKeys
    messages: current_status.CurrentStatus

    def writer(self, deliver: Deliver) -> Writer:
        return Writer(self.ledger, partial(current_status.row, self.names), deliver, queue_max=self.settings.queue_max)

    def close(self) -> None:
        self.ledger.close()


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings as given. Raises BadSettings."""
    return load(os.environ if environ is None else environ, PROVIDERS)


def settings() -> Settings:
    """Read the settings and complete them with the secrets. Raises BadSettings."""
    return with_secrets(read())


def with_secrets(told: Settings, on_event: OnEvent = lambda _name, _fields: None) -> Settings:
    """Return settings with both secrets; the embedded database's are made once, in the data directory."""
    if told.master_key is not None and told.deployment_secret is not None:
        return told
    if not told.is_embedded:
        raise BadSettings(["LEDGER_MASTER_KEY and LEDGER_DEPLOYMENT_SECRET: required with LEDGER_DATABASE_URL"])
    return msgspec.structs.replace(
        told,
        master_key=told.master_key or _kept_secret(told.data_dir / "master.key", on_event),
        deployment_secret=told.deployment_secret or _kept_secret(told.data_dir / "deployment.secret", on_event),
    )


def _kept_secret(path: Path, on_event: OnEvent) -> Secret:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(os.urandom(32)) + b"\n")
        try:
            os.link(fresh, path)  # the first of several processes wins
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        on_event("secret_created", {"file": path.name, "advice": "back it up: without it nothing sealed can be read"})
    return decode_key(Secret(path.read_bytes().strip()), 32, 32)


@contextmanager
def database(
    told: Settings, on_event: OnEvent = lambda _name, _fields: None, *, guests_seconds: float = 5
) -> Iterator[str]:
    """Yield the database's URL: the configured one, or that of the embedded server, started if it is not running.

    Whoever started the embedded server stops it after waiting up to `guests_seconds` for others who use it.
    """
    if told.database_url is not None:
        yield told.database_url.reveal().decode()
        return
    with embedded.attach(told.data_dir, on_event, guests_seconds=guests_seconds) as url:
        yield url


def _fingerprint(secret: Secret) -> str:
    return hmac.digest(secret.reveal(), b"status-ledger fingerprint", "sha256").hex()


def build(told: Settings, database_url: str, *, pool_size: int = 8) -> Parts:
    """Build the parts over a migrated database. Raises WrongSecret and StoreUnavailable."""
    assert told.master_key is not None  # noqa: S101  # with_secrets ran
    assert told.deployment_secret is not None  # noqa: S101
    names = Names(told.deployment_secret.reveal())
    ledger = Ledger(
        database_url,
        partitions=told.partitions,
        names=names,
        master_key=MasterKey(told.master_key),
        pool_size=pool_size,
    )
    secrets = {
        "LEDGER_DEPLOYMENT_SECRET": _fingerprint(told.deployment_secret),
        "LEDGER_MASTER_KEY": _fingerprint(told.master_key),
    }
    try:
        ledger.require_secrets(secrets)
    except BaseException:
        ledger.close()
        raise
    return Parts(
        settings=told,
        names=names,
        ledger=ledger,
        keys=ApiKeys(ledger, told.deployment_secret.reveal()),
        messages=current_status.CurrentStatus(ledger),
    )


def application(
    parts: Parts, *, multiprocess: bool = False, draining: Callable[[], bool] = lambda: False
) -> Application:
    """Build the HTTP application over the parts."""
    told = parts.settings
    assert told.deployment_secret is not None  # noqa: S101  # with_secrets ran
    edge = Edge(parts.writer)
    limit = told.rate_limit
    limiter = RateLimiter(parts.ledger, limit.requests, limit.seconds) if limit else None
    access = Access(parts.keys, limiter)
    return build_http(
        edge=edge,
        webhooks=Webhooks(
            intakes(told.accounts, PROVIDERS, parts.names, keeps_items=told.keeps_items),
            edge,
            body_bytes_max=told.body_bytes_max,
        ),
        api=NativeApi(
            edge=edge,
            ledger=parts.ledger,
            access=access,
            messages=parts.messages,
            accounts=dict(told.accounts),
            public_url=told.public_url,
        ),
        compat=CompatApi(edge=edge, access=access, messages=parts.messages),
        health=Health(edge, parts.ledger, multiprocess=multiprocess, draining=draining),
    )

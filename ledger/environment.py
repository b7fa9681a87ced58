"""The environment and what it stands for: settings, secrets, the database. The only reader of the environment.

Apart from `ledger.main`, because a command that builds nothing starts quicker and smaller without it.
"""

import base64
import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ledger.config import BadSettings, Settings, load
from ledger.proof.notes import Signer
from ledger.providers import PROVIDERS
from ledger.store import embedded
from ledger.values import decode_key
from ledger.wire.contract import Secret

OnEvent = Callable[[str, dict[str, object]], None]


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


def signer(told: Settings) -> Signer:
    """Return what signs checkpoints: the key that is set, else one that follows from the deployment secret."""
    if told.signing_key is not None:
        return Signer(told.signing_key)
    assert told.deployment_secret is not None  # noqa: S101  # with_secrets ran
    return Signer(Secret(hmac.digest(told.deployment_secret.reveal(), b"status-ledger checkpoints", "sha256")))

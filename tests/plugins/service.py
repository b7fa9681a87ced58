"""A server as users start it: a process of its own over a database of its own, with accounts at every provider.

`service` is shared by all tests that only need ids of their own. `start_service` starts another one: for other
settings, and for tests that stop, kill or starve it. `client(key)` is a plain HTTP client of it.
"""

import base64
import json
import os
import selectors
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ledger import main
from ledger.domain.status import Channel, Style
from ledger.main import Parts
from ledger.store import captures
from ledger.store.keys import ApiKey
from tests.plugins import spills
from tests.plugins.clocked import CLOCK_FILE
from tests.plugins.postgres import cloned

#: A start, an end or a recovery that takes longer is a failure.
PATIENCE_SECONDS = 20.0
#: What the tests' own connections are called, to tell them from the server's.
OURS = "tests"
READY = "status-ledger is ready on "
#: Nothing here speaks TLS; without this every client would load the system's certificates.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ROOT = Path(__file__).parents[2]

MASTER_KEY = base64.b64encode(b"a master key made up for tests!!").decode()
DEPLOYMENT_SECRET = base64.b64encode(b"a deployment secret for tests").decode()

AccountTables = Mapping[str, Mapping[str, Any]]

#: One account a provider, second ones at the same provider, and one that settles conflicts by rule.
ACCOUNTS: AccountTables = {
    "meta-main": {
        "provider": "meta",
        "channel": "whatsapp",
        "secrets": ["meta-secret-new", "meta-secret-old"],
        "verify_token": "meta-verify-token",
    },
    "meta-other": {"provider": "meta", "channel": "whatsapp", "secrets": ["meta-secret-of-another"]},
    "meta-wins": {
        "provider": "meta",
        "channel": "whatsapp",
        "secrets": ["meta-secret-wins"],
        "conflicts": "delivery-wins",
    },
    "twilio-main": {
        "provider": "twilio",
        "channel": "sms",
        "secrets": ["twilio-secret"],
        "public_url": "https://ledger.example.com/hooks/twilio",
    },
    "twilio-other": {
        "provider": "twilio",
        "channel": "sms",
        "secrets": ["twilio-secret-of-another"],
        "public_url": "https://ledger.example.com/hooks/twilio-other",
    },
    "viber-main": {"provider": "viber", "channel": "viber", "secrets": ["viber-secret"]},
}


def toml(accounts: AccountTables) -> str:
    """Write an accounts file. JSON's texts and lists of texts are TOML's."""
    return "\n\n".join(_table(f"accounts.{name}", fields) for name, fields in accounts.items()) + "\n"


def _table(name: str, fields: Mapping[str, Any]) -> str:
    nested = [field for field, value in fields.items() if isinstance(value, dict)]
    lines = [f"{json.dumps(field)} = {json.dumps(fields[field])}" for field in fields if field not in nested]
    return "\n".join([f"[{name}]", *lines, *(_table(f"{name}.{field}", fields[field]) for field in nested)])


def environment(database_url: str, directory: Path, **settings: str) -> dict[str, str]:
    """Return a complete environment for a command: nothing of the caller's own settings gets in."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    told = {
        "DATABASE_URL": database_url,
        "MASTER_KEY": MASTER_KEY,
        "DEPLOYMENT_SECRET": DEPLOYMENT_SECRET,
        "DATA_DIR": str(directory / "data"),
        "CONFIG": str(directory / "accounts.toml"),
        "RATE_LIMIT": "off",
        **{name.upper(): value for name, value in settings.items()},
    }
    return {**kept, "PYTHONPATH": str(ROOT), **{f"LEDGER_{name}": value for name, value in told.items()}}


def eventually(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Return the first true value of a condition, asked again and again; fail naming it after the deadline."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return found


class Service:
    """One running server, and what a test may want from it."""

    def __init__(
        self,
        database_url: str,
        directory: Path,
        environ: Mapping[str, str],
        arguments: tuple[str, ...],
        *,
        module: str = "ledger",
    ):
        self.database_url = database_url
        self.environ = dict(environ)
        self.log_file = directory / f"log-{time.monotonic_ns()}"
        self.printed = ""
        self._stack = ExitStack()
        self._ending = 0
        self._parts: Parts | None = None
        self.clients: dict[str | None, httpx.Client] = {}
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, "serve", "--port", "0", *arguments],
                env=self.environ,
                cwd=directory,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.url = self._ready()

    def _ready(self) -> str:
        """Wait for the line that says where it answers."""
        assert self.process.stdout is not None
        until = time.monotonic() + PATIENCE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while READY not in self.printed or not self.printed.endswith("\n"):
                if not selector.select(until - time.monotonic()):
                    self.stop(signal.SIGKILL)
                    pytest.fail(f"the server does not get ready: {self.log()}")
                chunk = os.read(self.process.stdout.fileno(), 65_536)
                if not chunk:
                    self.stop(signal.SIGKILL)
                    pytest.fail(f"the server ended with {self.process.returncode}: {self.log()}")
                self.printed += chunk.decode()
        return self.printed.rpartition(READY)[2].strip()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    def log(self) -> str:
        """Return everything the server has written to standard error so far."""
        return self.log_file.read_text("utf-8", "replace")

    def tell_to_end(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, unless one was sent before or the server has ended."""
        self._stack.close()
        self.clients.clear()
        self._parts = None
        if self._ending != number and self.process.poll() is None:
            self.process.send_signal(number)
            self._ending = number

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit code. Once stopped, only return it again."""
        self.tell_to_end(number)
        try:
            rest, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            pytest.fail(f"the server does not end: {self.log()}")
        except ValueError:  # its output was read to the end before
            return self.process.returncode
        self.printed += rest.decode()
        return self.process.returncode

    # As a client ------------------------------------------------------------------------------------------------------

    def client(self, key: str | None = None) -> httpx.Client:
        """Return a client that sends this key; the same one every time."""
        if key not in self.clients:
            self.clients[key] = self._stack.enter_context(self.another_client(key))
        return self.clients[key]

    def another_client(self, key: str | None = None) -> httpx.Client:
        """Return a client with connections of its own, for a test that closes it."""
        headers = {"x-octopods-auth": key} if key else {}
        return httpx.Client(
            base_url=self.url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False, verify=_NO_TLS
        )

    # Behind its back --------------------------------------------------------------------------------------------------

    @property
    def parts(self) -> Parts:
        """The same parts as the server's, over the same database."""
        if self._parts is None:
            told = main.read(self.environ)
            url = make_conninfo(self.database_url, application_name=OURS)
            self._parts = main.build(told, url, pool_size=1)
            self._stack.callback(self._parts.close)
        return self._parts

    def new_key(self, account: str, channel: str, style: str = "unified") -> tuple[ApiKey, str]:
        return self.parts.keys.create(account, Channel(channel), Style(style))

    def api(self, account: str = "meta-main", channel: str = "whatsapp", style: str = "unified") -> httpx.Client:
        """Return a client with a new key of this account and channel."""
        return self.client(self.new_key(account, channel, style)[1])

    def captured(self, account: str) -> list[tuple[str, bytes]]:
        """Return reason and content of everything kept because it could not be read."""
        rows = self.rows("SELECT reason, sealed, wrapped, capture_id FROM captures WHERE account = %s", account)
        master_key = self.parts.ledger.master_key
        return [(reason, captures.opened(sealed, wrapped, id_, master_key)[1]) for reason, sealed, wrapped, id_ in rows]

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()


Starter = Callable[..., Service]


@contextmanager
def starting(make_directory: Callable[[], Path]) -> Iterator[Starter]:
    """Yield a function that starts servers; all of them are stopped in the end, and their logs searched."""
    started: list[Service] = []

    def start(
        database_url: str,
        *arguments: str,
        accounts: AccountTables = ACCOUNTS,
        directory: Path | None = None,
        clock: Path | None = None,
        intercom: Mapping[str, Any] | None = None,
        users: AccountTables | None = None,
        planted: Path | None = None,
        **settings: str,
    ) -> Service:
        """`clock` is a file that tells the server's clock for webhooks; `intercom` and `users` tables of the accounts
        file; `planted` a directory with a `sitecustomize` that puts an error into the server.
        """
        directory = directory or make_directory()
        tables = toml(accounts) + (_table("intercom", intercom) + "\n" if intercom else "")
        for name, fields in (users or {}).items():
            tables += "\n" + _table(f"users.{name}", fields) + "\n"
        (directory / "accounts.toml").write_text(tables, "utf-8")
        environ = environment(database_url, directory, **settings)
        if clock is not None:
            environ[CLOCK_FILE] = str(clock)
        if planted is not None:
            environ["PYTHONPATH"] = f"{planted}:{ROOT}"
        module = "ledger" if clock is None else "tests.plugins.clocked"
        started.append(Service(database_url, directory, environ, arguments, module=module))
        return started[-1]

    try:
        yield start
    finally:
        for service in started:
            service.tell_to_end()
        for service in started:
            service.stop()
    for service in started:
        found = spills.found_in(f"{service.log()}\n{service.printed}", spills.secrets_of(service.environ))
        assert found == [], found


@pytest.fixture
def start_service(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Start servers that live as long as the test, and end before its database does."""
    with starting(lambda: tmp_path_factory.mktemp("service")) as start:
        yield start


@pytest.fixture(scope="module")
def new_database(postgres_url: str, template_url: str) -> Iterator[Callable[[], str]]:
    """Make migrated, empty databases that live as long as the module."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(cloned(postgres_url, template_url))


@pytest.fixture(scope="module")
def start_module_service(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Starter]:
    """Start servers that live as long as the module, and end before its databases do."""
    with starting(lambda: tmp_path_factory.mktemp("service")) as start:
        yield start


@pytest.fixture(scope="session")
def service(postgres_url: str, template_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The shared server. Whatever tests do to it, nothing may go wrong in it that its code did not expect."""
    with cloned(postgres_url, template_url) as url, starting(lambda: tmp_path_factory.mktemp("service")) as start:
        service = start(url)
        yield service
    unexpected = ("Traceback", "request_failed", "webhook_failed", "statement_poisoned")
    assert not [line for line in service.log().splitlines() if any(word in line for word in unexpected)]

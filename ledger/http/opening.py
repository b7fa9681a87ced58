"""Opens the few addresses that a provider's scheme needs: certificates that sign callbacks, offers of a subscription.

Only addresses that an adapter has approved come here. Nobody waits: an address is opened in a thread of its own, and
whoever asks meanwhile is told that its content is not at hand. Everything is bounded: how many addresses at once, how
long, how much is read, how much is kept. Redirects are not followed.
"""

import ssl
import threading
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

import structlog

from ledger.wire import public_keys

SECONDS_MAX: Final = 5.0
BYTES_MAX: Final = 64 * 1024
#: Addresses opened at the same time.
AT_ONCE_MAX: Final = 4
#: Certificates kept. A provider uses one a region, and now and then a new one.
KEPT_MAX: Final = 64
#: How long an address that could not be opened is left alone.
REST_SECONDS: Final = 10.0

Fetch = Callable[[str], bytes]

_log = structlog.get_logger("ledger.opening")


class NotOpened(Exception):
    """The address could not be opened. The text says why and does not repeat it."""


def fetch(url: str) -> bytes:
    """Return what is at an address, within all bounds. Raises NotOpened."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise NotOpened("not https")
    connection = HTTPSConnection(parts.hostname, parts.port, timeout=SECONDS_MAX, context=ssl.create_default_context())
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
        answer = connection.getresponse()
        content = answer.read(BYTES_MAX + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise NotOpened(type(error).__name__) from error
    finally:
        connection.close()
    if answer.status != 200 or len(content) > BYTES_MAX:
        raise NotOpened(f"status {answer.status}, {len(content)} bytes")
    return content


class Opener:
    """Opens addresses in the background. Safe to share between threads."""

    def __init__(self, fetch: Fetch = fetch, now: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._now = now
        self._lock = threading.Lock()
        self._certificates: dict[str, bytes] = {}
        self._resting: dict[str, float] = {}  #: address to the instant from which it may be tried again
        self._open: set[str] = set()

    def certificate(self, url: str) -> bytes | None:
        """Return the certificate at an address, or None and see to it that it is at hand when asked again."""
        known = self._certificates.get(url)
        if known is None:
            self._start(url, self._keep)
        return known

    def confirm(self, account: str, url: str) -> None:
        """Accept an offer by opening its address. The log says what came of it; an offer can be asked for again."""

        def accepted(_url: str, _content: bytes) -> None:
            _log.info("subscription_confirmed", account=account)

        def missed() -> None:
            _log.warning("subscription_missed", account=account, advice="ask the provider to offer it again")

        if not self._start(url, accepted, missed):
            missed()

    def _keep(self, url: str, content: bytes) -> None:
        if public_keys.rsa_key(content) is None:
            raise NotOpened("no certificate")
        with self._lock:
            while len(self._certificates) >= KEPT_MAX:
                del self._certificates[next(iter(self._certificates))]
            self._certificates[url] = content

    def _start(self, url: str, done: Callable[[str, bytes], None], failed: Callable[[], None] = lambda: None) -> bool:
        """Open an address unless it is being opened, has just failed, or too many others are open."""
        with self._lock:
            now = self._now()
            self._resting = {address: until for address, until in self._resting.items() if until > now}
            if url in self._open or url in self._resting or len(self._open) >= AT_ONCE_MAX:
                return url in self._open
            self._open.add(url)
        threading.Thread(target=self._run, args=(url, done, failed), name="opening", daemon=True).start()
        return True

    def _run(self, url: str, done: Callable[[str, bytes], None], failed: Callable[[], None]) -> None:
        try:
            done(url, self._fetch(url))
        except NotOpened as error:
            _log.warning("address_not_opened", host=urlsplit(url).hostname, why=str(error))
            with self._lock:
                self._resting[url] = self._now() + REST_SECONDS
            failed()
        finally:
            with self._lock:
                self._open.discard(url)

"""HubSpot's API as far as it is used: tokens, budgets, and what its answers mean.

Read on 21 November 2026 from HubSpot's published specifications (timeline 2026-03 and v3, CRM objects) and its usage
guidelines. An access token lives for half an hour and is refreshed before it ends; should it be refused as expired all
the same, it is refreshed once more. Every answer that is an error has an envelope with a `correlationId`, by which
HubSpot's support finds the request.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from ledger.outbound import schedule
from ledger.outbound.hubspot.settings import HubspotSettings
from ledger.outbound.webhooks import Answer, Client

_ANSWER_BYTES_MAX: Final = 1024 * 1024
#: A token is not used in its last minute.
_MARGIN_SECONDS: Final = 60.0
_WINDOW_SECONDS: Final = 10.0
_JSON: Final = [(b"content-type", b"application/json"), (b"accept", b"application/json")]


class Envelope(msgspec.Struct, kw_only=True, rename="camel"):
    """An error as HubSpot tells it. Anything else in it is ignored; nothing in it is certain to be there."""

    message: str = ""
    correlation_id: str = ""
    category: str = ""
    error_type: str = ""
    policy_name: str = ""
    status: str = ""


class Told(msgspec.Struct, frozen=True):
    """An answer."""

    status: int
    body: bytes
    error: Envelope

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300


class HubspotError(Exception):
    """An answer, or the want of one, that is about the HubSpot account as a whole and not about one event."""

    def __init__(self, outcome: str, told: Told | None = None) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.told = told


class Throttled(HubspotError):
    """A limit has been reached: come back after so many seconds."""

    def __init__(self, outcome: str, seconds: float, told: Told) -> None:
        super().__init__(outcome, told)
        self.seconds = seconds


class Forbidden(HubspotError):
    """Only the owner of the HubSpot account can help: a scope is missing, or the app was removed."""


class Unwell(HubspotError):
    """HubSpot cannot answer now."""


class Budget:
    """So many requests in any stretch of time: each waits until it fits."""

    def __init__(self, count: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._seconds = seconds
        self._clock = clock
        self._used: deque[float] = deque()

    def wait(self) -> float:
        """Take one; return after how many seconds it may be used."""
        now = self._clock()
        at = now if len(self._used) < self._count else max(now, self._used[-self._count] + self._seconds)
        self._used.append(at)
        while len(self._used) > self._count:
            self._used.popleft()
        return at - now


class HubspotApi:
    """One HubSpot account. Raises HubspotError, and what `Client.send` raises."""

    def __init__(
        self,
        settings: HubspotSettings,
        client: Client,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.settings = settings
        self._client = client
        self._now = now
        self._token = ""
        self._good_until = datetime.min.replace(tzinfo=UTC)
        self._requests = Budget(settings.requests_per_10_seconds, _WINDOW_SECONDS)
        self._searches = Budget(settings.searches_per_second, 1.0)

    async def call(self, method: str, path: str, body: Any, *, is_search: bool = False) -> Told:
        """Return an answer that is about what was asked: good, 400, 404, 409 or the like."""
        if self._now() >= self._good_until:
            await self._refresh()
        told = await self._send(method, path, body, is_search)
        if told.status == 401 and told.error.category == "EXPIRED_AUTHENTICATION":
            await self._refresh()
            told = await self._send(method, path, body, is_search)
        if told.status in (401, 403):
            raise Forbidden("forbidden", told)
        return told

    async def _send(self, method: str, path: str, body: Any, is_search: bool) -> Told:
        await asyncio.sleep(max(self._requests.wait(), self._searches.wait() if is_search else 0.0))
        headers = [*_JSON, (b"authorization", f"Bearer {self._token}".encode())]
        return self._checked(await self._post(method, path, headers, msgspec.json.encode(body)))

    async def _post(self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
        url = self.settings.base_url + path
        return await self._client.send(method, url, headers, body, answer_bytes_max=_ANSWER_BYTES_MAX)

    def _checked(self, answer: Answer) -> Told:
        told = Told(answer.status, answer.body, _envelope(answer))
        if answer.status == 429:
            raise self._throttled(answer, told)
        if answer.status >= 500 or 300 <= answer.status < 400:
            raise Unwell("unwell", told)
        return told

    def _throttled(self, answer: Answer, told: Told) -> Throttled:
        now = self._now()
        if told.error.policy_name == "DAILY":
            local = now.astimezone(self.settings.time_zone)
            midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            return Throttled("daily_limit", (midnight - local).total_seconds(), told)
        window = answer.headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
        seconds = int(window[:9]) / 1000 if window.isascii() and window.isdigit() else _WINDOW_SECONDS
        asked = schedule.retry_after(answer.headers.get("retry-after"), now)
        return Throttled("rate_limit", min(asked or seconds, schedule.RETRY_AFTER_SECONDS_MAX), told)

    async def _refresh(self) -> None:
        """Get an access token. Raises Forbidden if the refresh token is not good any more."""
        form = {
            "grant_type": "refresh_token",
            "client_id": self.settings.client_id,
            "client_secret": self.settings.client_secret.reveal().decode(),
            "refresh_token": self.settings.refresh_token.reveal().decode(),
        }
        headers = [(b"content-type", b"application/x-www-form-urlencoded")]
        asked = self._now()
        told = self._checked(await self._post("POST", "/oauth/v1/token", headers, urlencode(form).encode()))
        if not told.is_good:
            raise Forbidden("token_refused", told)
        try:
            token = msgspec.json.decode(told.body, type=_Token)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unwell("unwell", told) from None
        self._token = token.access_token
        self._good_until = asked + timedelta(seconds=max(0.0, token.expires_in - _MARGIN_SECONDS))


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float


def _envelope(answer: Answer) -> Envelope:
    if 200 <= answer.status < 300:
        return Envelope()
    try:
        return msgspec.json.decode(answer.body, type=Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Envelope()  # a gateway's page

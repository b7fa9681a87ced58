"""Who is asking: one API key, one account, one channel, one budget."""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request

from ledger.http.edge import Edge
from ledger.http.problems import Problem
from ledger.store.keys import ApiKey, ApiKeys, KeyState
from ledger.store.rate_limits import Limited, RateLimiter

T = TypeVar("T")


class KeyMissing(Exception):
    """No key came with the request."""


class KeyUnknown(Exception):
    """The key was never ours."""


class KeyDeprecated(Exception):
    """The key was rotated or revoked."""


class Access(msgspec.Struct, frozen=True):
    """Admits requests. Runs in a fiber together with what it protects."""

    keys: ApiKeys
    limiter: RateLimiter | None

    def admit(self, secret: str | None) -> ApiKey:
        """Return the key's record and count the request.

        Raises KeyMissing, KeyUnknown, KeyDeprecated, Limited, StoreUnavailable.
        """
        if not secret:
            raise KeyMissing
        key = self.keys.find(secret)
        if key is None:
            raise KeyUnknown
        if key.state is not KeyState.ACTIVE:
            raise KeyDeprecated
        if self.limiter is not None:
            self.limiter.take(key.id)
        return key


def secret_of(request: Request) -> str | None:
    """Return the key that came with the request: X-Octopods-Auth, or Authorization: Bearer."""
    told = request.headers.get("x-octopods-auth")
    if told:
        return told.strip()
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    return credentials.strip() or None if scheme.lower() == "bearer" else None


def as_problem(error: Exception) -> Problem:
    """Translate what `admit` raises for the native API."""
    challenge = {"www-authenticate": 'Bearer realm="status-ledger"'}
    match error:
        case KeyMissing():
            return Problem("key_missing", "Send it as X-Octopods-Auth or Authorization: Bearer.", headers=challenge)
        case KeyUnknown():
            return Problem("key_unknown", "Check the key, or create one.", headers=challenge)
        case KeyDeprecated():
            return Problem("key_deprecated", "Deprecated API key. Use the current one.", headers=challenge)
        case Limited(retry_at=retry_at, retry_after_seconds=seconds):
            detail = "Pause until the time in retry_at."
            return Problem("rate_limited", detail, headers={"retry-after": str(seconds)}, retry_at=retry_at)
        case _:
            raise error


async def admitted(edge: Edge, access: Access, request: Request, then: Callable[[ApiKey], T]) -> tuple[ApiKey, T]:
    """Admit the key that came with a request, and read with it, in one fiber. Raises Problem."""
    secret = secret_of(request)

    def admit_and_then() -> tuple[ApiKey, T]:
        key = access.admit(secret)
        return key, then(key)

    try:
        return await edge.read(admit_and_then)
    except REFUSALS as refused:
        raise as_problem(refused) from None


REFUSALS = (KeyMissing, KeyUnknown, KeyDeprecated, Limited)

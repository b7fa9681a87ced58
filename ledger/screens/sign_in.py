"""Signing in with an API key or as a configured user, and signing out."""

import asyncio
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from ledger.http.edge import Edge
from ledger.screens import rendering, users
from ledger.screens.csrf import Guard
from ledger.screens.sessions import Session, Sessions
from ledger.screens.users import User
from ledger.store.keys import ApiKeys, KeyState
from ledger.store.rate_limits import Limited, RateLimiter

HOME: Final = "/"
#: Attempts a minute: for one name or key, so that nobody guesses; from one address, so that nobody tries many names.
ATTEMPTS_PER_NAME: Final = 10
ATTEMPTS_PER_ADDRESS: Final = 60
ATTEMPTS_SECONDS: Final = 60
#: Passwords compared at once: each takes 64 MiB.
_COMPARED_AT_ONCE: Final = 2
_RETURN_CHARACTERS_MAX: Final = 1_024
_DIGEST_DIGITS: Final = 4
_REFUSED: Final = "That did not match. Check what you typed."


class SignIn:
    """Handlers."""

    def __init__(
        self,
        *,
        edge: Edge,
        sessions: Sessions,
        guard: Guard,
        users: Mapping[str, User],
        keys: ApiKeys,
        per_name: RateLimiter,
        per_address: RateLimiter,
    ) -> None:
        self._edge = edge
        self._sessions = sessions
        self._guard = guard
        self._users = users
        self._keys = keys
        self._per_name = per_name
        self._per_address = per_address
        self._comparing = asyncio.Semaphore(_COMPARED_AT_ONCE)

    async def form(self, request: Request) -> Response:
        visit = rendering.of(request)
        back = local_path(request.query_params.get("next"))
        if visit.viewer is not None:
            return rendering.redirect(request, back)
        return self._form(request, back)

    async def sign_in(self, request: Request) -> Response:
        told = rendering.of(request).form
        back = local_path(told.get("next"))
        name, secret = told.get("name", "").strip(), told.get("secret", "").strip()
        address = request.client.host if request.client is not None else ""
        try:
            await self._edge.read(self._count, name or secret, address)
        except Limited as limited:
            wait = f"Too many attempts. Try again in {limited.retry_after_seconds} seconds."
            return self._form(request, back, wrong=wait, name=name, status=429)
        session = await self._session_of(request, name, secret)
        if session is None:
            return self._form(request, back, wrong=_REFUSED, name=name, status=401)
        answer = rendering.redirect(request, back)
        self._sessions.set(request, answer, session)
        return answer

    async def sign_out(self, request: Request) -> Response:
        answer = rendering.redirect(request, "/sign-in")
        self._sessions.clear(request, answer)
        return answer

    def _count(self, subject: str, address: str) -> None:
        """Count an attempt. What is kept is a short keyed digest: no key typed here is written down, and no more
        counts are kept than there are such digests. Raises Limited.
        """
        self._per_address.take(f"sign-in from {self._sessions.digest(address)[:_DIGEST_DIGITS]}")
        self._per_name.take(f"sign-in as {self._sessions.digest(subject)[:_DIGEST_DIGITS]}")

    async def _session_of(self, request: Request, name: str, secret: str) -> Session | None:
        now = rendering.of(request).now
        if name:
            user = self._users.get(name)
            expected = user.password if user is not None else users.NOBODY
            if len(secret.encode("utf-8", "surrogatepass")) > users.PASSWORD_BYTES_MAX:
                return None
            async with self._comparing:
                matches = await asyncio.to_thread(expected.matches, secret)
            return self._sessions.of_user(user, now) if matches and user is not None else None
        key = await self._edge.read(self._keys.find, secret) if secret else None
        return self._sessions.of_key(key, now) if key is not None and key.state is KeyState.ACTIVE else None

    def _form(
        self, request: Request, back: str, *, wrong: str | None = None, name: str = "", status: int = 200
    ) -> Response:
        """Show the form. Whoever has no session gets one: the form's token is bound to it."""
        visit = rendering.of(request)
        session = visit.session or self._sessions.of_nobody(visit.now)
        token = self._guard.token(session)
        answer = rendering.page(
            request, "sign_in.html", status, next=back, wrong=wrong, name=name, token=token, has_users=bool(self._users)
        )
        if visit.session is None:
            self._sessions.set(request, answer, session)
        return answer


def local_path(told: str | None) -> str:
    """Return where to go after signing in: a path of ours, else the first page. Nothing that leads elsewhere passes."""
    if told is None or len(told) > _RETURN_CHARACTERS_MAX or not re.fullmatch(r"/[\x21-\x7e]*", told):
        return HOME
    if "\\" in told or told.startswith(("//", "/sign-")):
        return HOME
    parts = urlsplit(told)
    return told if not parts.scheme and not parts.netloc else HOME

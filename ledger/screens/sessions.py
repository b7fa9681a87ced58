"""Sessions: a cookie that says who signed in, signed by a key that follows from the deployment secret.

Nothing is kept on our side. A session ends when it expires, when its API key ends, and when its user's password, role
or accounts change. Somebody who has not signed in has a session too: the token of the sign-in form is bound to it.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from os import urandom
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.status import Channel
from ledger.screens.access import Role, Viewer
from ledger.screens.users import User
from ledger.store.keys import ApiKey, ApiKeys

SESSION_TIME: Final = timedelta(hours=12)
_COOKIE_CHARACTERS_MAX: Final = 1_024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Session(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the cookie holds."""

    nonce: str  #: the token of forms follows from it
    expires: int  #: seconds since 1970
    user: str | None = None
    mark: str | None = None  #: fingerprint of the user's table when they signed in
    key: str | None = None  #: the API key's id; its account and channel are those of the session
    account: str | None = None
    channel: Channel | None = None

    @property
    def expires_at(self) -> datetime:
        return _EPOCH + timedelta(seconds=self.expires)


class Sessions:
    """Writes and reads cookies. Methods that tell who somebody is may ask the database."""

    def __init__(
        self, *, deployment_secret: bytes, users: Mapping[str, User], keys: ApiKeys, public_url: str | None
    ) -> None:
        self._key = hmac.digest(deployment_secret, b"status-ledger sessions", "sha256")
        self._users = users
        self._keys = keys
        self._public_url = public_url or ""

    def of_user(self, user: User, now: datetime) -> Session:
        return self._new(now, user=user.name, mark=self._mark(user))

    def of_key(self, key: ApiKey, now: datetime) -> Session:
        return self._new(now, key=key.id, account=key.account, channel=key.channel)

    def of_nobody(self, now: datetime) -> Session:
        return self._new(now)

    def viewer(self, session: Session) -> Viewer | None:
        """Return who a session belongs to; None for nobody, or nobody any more. Raises StoreUnavailable."""
        if session.user is not None:
            user = self._users.get(session.user)
            if user is None or session.mark != self._mark(user):
                return None
            return Viewer(name=user.name, role=user.role, accounts=user.accounts, expires_at=session.expires_at)
        if session.key is None or session.account is None or session.key not in self._keys.active([session.key]):
            return None
        return Viewer(
            name=session.key,
            role=Role.OPERATOR,  # what a key may do on pages it may do by the API
            accounts=frozenset({session.account}),
            channel=session.channel,
            key_id=session.key,
            expires_at=session.expires_at,
        )

    def digest(self, text: str) -> str:
        """Return a keyed digest of what somebody typed."""
        return self._signature(f"typed {text}")

    # The cookie -------------------------------------------------------------------------------------------------------

    def read(self, request: Request, now: datetime) -> Session | None:
        """Return the session that came with a request; None if it is not ours or has expired."""
        told = request.cookies.get(self._cookie(request), "")
        payload, _, signature = told.partition(".")
        if len(told) > _COOKIE_CHARACTERS_MAX or not hmac.compare_digest(
            self._signature(payload).encode(), signature.encode("utf-8", "surrogatepass")
        ):
            return None
        try:
            session = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)), type=Session)
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            return None
        return session if now < session.expires_at else None

    def set(self, request: Request, answer: Response, session: Session) -> None:
        payload = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode().rstrip("=")
        answer.set_cookie(
            self._cookie(request),
            f"{payload}.{self._signature(payload)}",
            max_age=int(SESSION_TIME.total_seconds()),
            path="/",
            secure=self._is_secure(request),
            httponly=True,
            samesite="lax",
        )

    def clear(self, request: Request, answer: Response) -> None:
        answer.delete_cookie(
            self._cookie(request), path="/", secure=self._is_secure(request), httponly=True, samesite="lax"
        )

    def _cookie(self, request: Request) -> str:
        """Name the cookie. Browsers take the prefix from a secure origin for this very host only (RFC 6265bis)."""
        return "__Host-ledger" if self._is_secure(request) else "ledger"

    def _is_secure(self, request: Request) -> bool:
        return self._public_url.startswith("https://") or request.url.scheme == "https"

    def _new(self, now: datetime, **told: Any) -> Session:
        expires = int((now + SESSION_TIME).timestamp())
        return Session(nonce=base64.urlsafe_b64encode(urandom(18)).decode(), expires=expires, **told)

    def _signature(self, payload: str) -> str:
        return hmac.digest(self._key, payload.encode("utf-8", "surrogatepass"), "sha256").hex()

    def _mark(self, user: User) -> str:
        told = f"{user.password}|{user.role}|{sorted(user.accounts) if user.accounts is not None else '*'}"
        return hmac.digest(self._key, told.encode(), "sha256").hex()[:32]

"""Writes come from our own pages: each carries a token that is bound to the session, and comes from our origin."""

import hmac
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from ledger.http.problems import Problem
from ledger.screens.sessions import Session

FIELD: Final = "csrf"
HEADER: Final = "X-CSRF-Token"


class Guard:
    """Makes tokens and checks what comes with a write."""

    def __init__(self, *, deployment_secret: bytes, public_url: str | None) -> None:
        self._key = hmac.digest(deployment_secret, b"status-ledger forms", "sha256")
        self._public = urlsplit(public_url).netloc if public_url else None

    def token(self, session: Session) -> str:
        return hmac.digest(self._key, session.nonce.encode(), "sha256").hex()

    def check(self, request: Request, session: Session | None, told: str) -> None:
        """Raise Problem `forgery` for a write that none of our pages has sent."""
        expected = self.token(session) if session is not None else ""
        matches = hmac.compare_digest(expected.encode(), told.encode("utf-8", "surrogatepass"))
        if session is None or not matches or not self._is_ours(request):
            raise Problem("forgery", "Reload the page and try again.")

    def _is_ours(self, request: Request) -> bool:
        """Tell whether a browser says that one of our pages sent this. Old ones say nothing: the token speaks then."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        origin = request.headers.get("origin")
        if origin is None:
            return True
        return urlsplit(origin).netloc.lower() in {
            each.lower() for each in (request.headers.get("host"), self._public) if each
        }

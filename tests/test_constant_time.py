"""Whatever decides whether a secret, a signature or a token is the right one compares in constant time.

`hmac.compare_digest` is made to find everything different: what is right must be refused then. Where it is not, some
other comparison had the say. Public keys are left out: there is no secret on our side that time could tell of.
API keys are compared nowhere: they are found by a keyed hash.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from ledger.http.intercom import IntercomApp
from ledger.http.problems import Problem
from ledger.screens import users
from ledger.screens.csrf import Guard
from ledger.screens.sessions import Sessions
from ledger.surfaces.intercom import IntercomSettings
from ledger.wire.contract import Secret
from tests.providers.requests import BASE_URL, a_webhook, an_account
from tests.providers.webhook_cases import CASES, Case

NOW = datetime(2026, 11, 26, tzinfo=UTC)
PUBLIC_KEYS = ("telnyx", "aws", "standardwebhooks v1a, listed")
SHARED_SECRETS = [case for case in CASES if case.name not in PUBLIC_KEYS]


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what makes every comparison in constant time say no, and the number of those that were asked for."""
    asked: list[object] = []

    def blind() -> list[object]:
        monkeypatch.setattr(hmac, "compare_digest", lambda one, other: asked.append(one) or False)
        return asked

    return blind


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in SHARED_SECRETS])
def test_a_callback_is_authentic_by_a_comparison_in_constant_time(case: Case, blind: Any) -> None:
    request, account = case.request(case.item("1001", "sent")), case.account("secret")
    assert case.provider.authenticate(request, account)

    asked = blind()

    assert not case.provider.authenticate(request, account)
    assert asked


def test_a_handshake_is_accepted_by_one(blind: Any) -> None:
    case = next(case for case in CASES if case.provider.handshake is not None)
    account = an_account(case.provider.name, "secret", verify_token=Secret("token"))
    query = "hub.mode=subscribe&hub.verify_token=token&hub.challenge=1158201444"
    request = a_webhook(url=f"{BASE_URL}?{query}", method="GET")
    assert case.provider.handshake is not None
    assert case.provider.handshake(request, account)

    asked = blind()

    assert case.provider.handshake(request, account) is None
    assert asked


def test_a_session_is_read_and_a_form_is_taken_by_one(blind: Any) -> None:
    sessions = Sessions(deployment_secret=b"secret", users={}, keys=None, public_url=None)  # type: ignore[arg-type]
    guard, session, answer = Guard(deployment_secret=b"secret", public_url=None), sessions.of_nobody(NOW), Response()
    sessions.set(a_request(), answer, session)
    request = a_request(answer.headers["set-cookie"].partition(";")[0])
    assert sessions.read(request, NOW) == session
    guard.check(request, session, token := guard.token(session))

    asked = blind()

    assert sessions.read(request, NOW) is None
    with pytest.raises(Problem, match="forgery"):
        guard.check(request, session, token)
    assert len(asked) == 2


def a_request(cookie: str = "") -> Request:
    headers = [(b"host", b"ledger.example.com"), (b"cookie", cookie.encode())]
    return Request({"type": "http", "scheme": "http", "method": "GET", "path": "/", "headers": headers})


def test_a_password_matches_by_one(blind: Any) -> None:
    password = users.hash_password("a password made up for tests")
    assert password.matches("a password made up for tests")

    asked = blind()

    assert not password.matches("a password made up for tests")
    assert asked


def test_the_intercom_app_believes_by_one(blind: Any) -> None:
    settings = IntercomSettings(secrets=(Secret("secret"),), workspaces={})
    app = IntercomApp(edge=None, ledger=None, messages=None, settings=settings)  # type: ignore[arg-type]
    signature = hmac.new(b"secret", b"{}", hashlib.sha256).hexdigest()
    assert app._is_authentic(b"{}", signature)

    asked = blind()

    assert not app._is_authentic(b"{}", signature)
    assert asked

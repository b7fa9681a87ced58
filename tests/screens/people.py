"""Users of the pages as tests configure them, and clients that sign in."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx

from ledger.screens import users
from tests.plugins.service import Service
from tests.plugins.spills import canary

PASSWORD = canary("a password made up for tests")


@cache
def password_hash() -> str:
    """One hash for all: each takes a quarter of a second."""
    return str(users.hash_password(PASSWORD))


def tables() -> dict[str, dict[str, object]]:
    """One user a role who sees everything, and one of each kind who sees one account."""
    told: dict[str, dict[str, object]] = {}
    for role in ("viewer", "auditor", "operator"):
        told[role] = {"password": password_hash(), "role": role, "accounts": ["*"]}
        told[f"{role}-of-one"] = {"password": password_hash(), "role": role, "accounts": ["meta-main"]}
    return told


def token_of(page: str) -> str:
    """Return the token of the first form of a page."""
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None, page
    return found[1]


@contextmanager
def browser(service: Service) -> Iterator[httpx.Client]:
    """A client with cookies of its own that follows nothing by itself."""
    with service.another_client() as client:
        yield client


def sign_in(client: httpx.Client, *, name: str = "", secret: str = PASSWORD, **more: str) -> httpx.Response:
    token = token_of(client.get("/sign-in").text)
    return client.post("/sign-in", data={"csrf": token, "name": name, "secret": secret, **more})


@cache
def session(service: Service, name: str = "", secret: str = PASSWORD) -> str:
    """Return the cookie of somebody who has signed in, once for all tests: attempts are limited."""
    with browser(service) as client:
        answer = sign_in(client, name=name, secret=secret)
        assert answer.status_code == 303, answer.text
        return client.cookies["ledger"]


@contextmanager
def signed_in(service: Service, name: str = "", secret: str = PASSWORD) -> Iterator[httpx.Client]:
    with browser(service) as client:
        client.cookies.set("ledger", session(service, name, secret), domain=service.address[0])
        yield client

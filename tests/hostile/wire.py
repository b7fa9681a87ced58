"""Bytes over a socket, as no HTTP library would send them."""

import socket
from collections.abc import Iterable
from typing import Any

from ledger.wire.contract import Webhook
from tests.http.test_protocol import statuses
from tests.http.test_webhooks import exchange
from tests.plugins.service import Service
from tests.providers.requests import header_pairs

__all__ = ["CLOSE", "as_sent", "connect", "exchange", "request", "status", "statuses"]

CLOSE = (b"connection", b"close")

Pairs = Iterable[tuple[bytes, bytes]]


def request(
    method: bytes, target: bytes, headers: Pairs = (), body: bytes = b"", *, length: int | None = None
) -> bytes:
    """Write a request down. `length`: what it says of its body, if not the truth; -1: nothing."""
    told = len(body) if length is None else length
    lengths = [(b"content-length", b"%d" % told)] if told >= 0 else []
    lines = [b"%s %s HTTP/1.1" % (method, target), b"host: localhost"]
    lines += [b"%s: %s" % pair for pair in (*headers, *lengths)]
    return b"\r\n".join([*lines, b"", b""]) + body


def as_sent(account: str, webhook: Webhook, headers: Pairs = (CLOSE,), *, target: bytes = b"") -> bytes:
    """Write a provider's request down, for the account it goes to."""
    path = b"/webhooks/" + account.encode() + (b"?" + webhook.query if webhook.query else b"")
    pairs = [*header_pairs(webhook), *headers]
    return request(webhook.method.encode(), target or path, pairs, webhook.body)


def status(service: Service, *parts: bytes) -> int:
    """Send, and return the only answer's status; 0 if the connection was closed without one."""
    found = statuses(exchange(service, *parts))
    assert len(found) <= 1, found
    return found[0] if found else 0


def connect(service: Service, **options: Any) -> socket.socket:
    return socket.create_connection(service.address, timeout=10, **options)

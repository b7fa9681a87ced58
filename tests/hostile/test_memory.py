"""Many large requests at once: some may be told to come again, and what they take of memory is bounded."""

import selectors
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from tests.hostile.conftest import PEAK_BYTES_MAX, peak_bytes
from tests.hostile.wire import CLOSE, connect, request, status
from tests.http.callbacks import JSON, Callback, meta, meta_signed, meta_status, new_wamid, only, send
from tests.plugins.service import PATIENCE_SECONDS, Service, Starter

AT_ONCE = 64
SENDERS, SENT_BYTES = 450, 1_000_000


@pytest.fixture
def service(start_service: Starter, database_url: str) -> Service:
    return start_service(database_url)


def delivered_at_once(service: Service, callback: Callback) -> list[int]:
    signature = callback.headers["x-hub-signature-256"].encode()
    headers = [(b"content-type", JSON.encode()), (b"x-hub-signature-256", signature), CLOSE]
    sent = request(b"POST", b"/webhooks/meta-main", headers, callback.body)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda _: status(service, sent), range(AT_ONCE)))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 3_000_000, id="nothing to be read"),
        pytest.param(b'{"entry":[' + b'{"changes":[{"value":{"statuses":[{}]}}]},' * 70_000 + b"{}]}", id="many items"),
        pytest.param(b"x" * 3_000_000, id="no JSON"),
    ],
)
def test_large_bodies_at_once_are_held_within_bounds(service: Service, body: bytes) -> None:
    answers = delivered_at_once(service, meta_signed(body))

    # 0: cut off, because a machine this busy took longer over the body than a body may take.
    assert set(answers) <= {0, 200, 503}
    assert {200, 503} & set(answers)
    assert peak_bytes(service) < PEAK_BYTES_MAX
    assert send(service, meta(meta_status(wamid := new_wamid()))).status_code == 200
    assert only(service.api(), wamid)["status"] == "SENT"


@pytest.mark.parametrize("more", [(), ((b"expect", b"100-continue"),)], ids=["the short way", "the ordinary way"])
def test_bodies_of_anybody_that_never_end_are_held_within_bounds(
    service: Service, more: tuple[tuple[bytes, bytes], ...]
) -> None:
    """Nobody has signed anything: each sends a part of what it announces, and keeps the connection."""
    head = request(b"POST", b"/webhooks/meta-main", [(b"content-type", JSON.encode()), *more], length=4_000_000)
    with ExitStack() as stack:
        senders = [stack.enter_context(connect(service)) for _ in range(SENDERS)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda sender: send_in_part(sender, head), senders))

        assert is_any_refused(senders)
        assert peak_bytes(service) < PEAK_BYTES_MAX
    assert send(service, meta(meta_status(wamid := new_wamid()))).status_code == 200  # the room is given back
    assert only(service.api(), wamid)["status"] == "SENT"
    assert "Traceback" not in service.log()


def send_in_part(connection: socket.socket, head: bytes) -> None:
    """Send the beginning of a request."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(head + b"[" * SENT_BYTES)


def is_any_refused(connections: Sequence[socket.socket]) -> bool:
    """Wait until one of them is told that there is no room; give up once all are closed or none has more to tell."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection, selectors.EVENT_READ)
        while selector.get_map() and (told := selector.select(PATIENCE_SECONDS)):
            for key, _ in told:
                answer = received(key.fileobj)
                if b" 503 " in answer and b"connection: close" in answer:
                    return True
                if not answer:
                    selector.unregister(key.fileobj)
    return False


def received(connection: Any) -> bytes:
    """Return what has come; nothing once the connection is closed."""
    try:
        return bytes(connection.recv(65_536))
    except ConnectionResetError:
        return b""

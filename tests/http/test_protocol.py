"""The short way of callbacks through the HTTP protocol: the same answers as the ordinary way, in the order of requests.

Every test speaks HTTP over a socket of its own. `as_sent` writes a callback down as a provider would send it; what is
unusual about a request (`UNUSUAL`) sends it the ordinary way, through ASGI.
"""

import re
import socket
from collections.abc import Iterable

import httpx
import pytest

from tests.http.callbacks import Callback, history, meta, meta_status, new_sid, new_wamid, only, twilio
from tests.plugins.service import PATIENCE_SECONDS, Service


@pytest.fixture
def whatsapp(service: Service) -> httpx.Client:
    return service.api("meta-main", "whatsapp")


def as_sent(callback: Callback, *lines: str, version: str = "1.1") -> bytes:
    """Return a callback as it goes over the wire."""
    target = f"/webhooks/{callback.account}" + (f"?{callback.query}" if callback.query else "")
    headers = [f"{name}: {value}" for name, value in callback.headers.items()]
    length = f"content-length: {len(callback.body)}"
    head = "\r\n".join([f"POST {target} HTTP/{version}", "host: localhost", *headers, length, *lines, "", ""])
    return head.encode() + callback.body


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: localhost", *lines, "", ""]).encode()


CLOSE = "connection: close"


def exchange(service: Service, parts: Iterable[bytes]) -> bytes:
    """Send bytes over one connection and return all that comes until the server closes it."""
    received = b""
    with socket.create_connection(service.address, timeout=PATIENCE_SECONDS) as connection:
        for part in parts:
            connection.sendall(part)
        while chunk := connection.recv(65_536):
            received += chunk
    return received


def statuses(received: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def wamids(count: int) -> list[str]:
    return [new_wamid() for _ in range(count)]


def forged(callback: Callback) -> Callback:
    return callback._replace(headers={**callback.headers, "x-hub-signature-256": "sha256=" + "0" * 64})


def unknown(callback: Callback) -> Callback:
    return callback._replace(account="nobody")


def test_a_connection_serves_callback_after_callback(service: Service, whatsapp: httpx.Client) -> None:
    names = wamids(3)

    received = exchange(service, [*(as_sent(meta(meta_status(name))) for name in names), as_sent(meta(), CLOSE)])

    assert statuses(received) == [200] * 4
    assert [only(whatsapp, name)["status"] for name in names] == ["SENT"] * 3


def test_callbacks_sent_at_once_are_answered_in_their_order(service: Service, whatsapp: httpx.Client) -> None:
    """What can be refused at once waits for the commits of those before it."""
    names = wamids(3)
    good = [meta(meta_status(name)) for name in names]
    requests = [good[0], forged(good[0]), good[1], unknown(good[0]), good[2]]

    received = exchange(service, [b"".join([*map(as_sent, requests), as_sent(forged(good[0]), CLOSE)])])

    assert statuses(received) == [200, 401, 200, 404, 200, 401]
    assert [only(whatsapp, name)["version"] for name in names] == [1, 1, 1]


def test_what_comes_at_once_is_read_account_by_account_and_answered_in_its_own_order(service: Service) -> None:
    apis = [service.api("meta-main", "whatsapp"), service.api("twilio-main", "sms")]
    pairs = [(new_wamid(), new_sid()) for _ in range(3)]
    requests = [each for wamid, sid in pairs for each in (meta(meta_status(wamid)), twilio(sid, "sent"))]

    received = exchange(service, [b"".join([*map(as_sent, requests), as_sent(forged(requests[0]), CLOSE)])])

    assert statuses(received) == [200] * 6 + [401]
    by_account = [(api, name) for api, names in zip(apis, zip(*pairs, strict=True), strict=True) for name in names]
    positions = [history(api, only(api, name))[0]["position"] for api, name in by_account]
    assert positions == sorted(positions)


def test_a_callback_may_follow_an_ordinary_request_at_once(service: Service, whatsapp: httpx.Client) -> None:
    name = new_wamid()

    received = exchange(service, [get("/livez") + as_sent(meta(meta_status(name)), CLOSE)])

    assert statuses(received) == [200, 200]
    assert b"\r\n\r\nok" in received
    assert only(whatsapp, name)["version"] == 1


def test_an_ordinary_request_right_behind_a_callback_is_left_to_be_sent_again(
    service: Service, whatsapp: httpx.Client
) -> None:
    """It would be answered out of turn. The connection ends after the callback's answer, which says so."""
    name = new_wamid()

    received = exchange(service, [as_sent(meta(meta_status(name))) + get("/livez")])

    assert statuses(received) == [200]
    assert b"\r\nconnection: close\r\n" in received
    assert only(whatsapp, name)["version"] == 1


@pytest.mark.parametrize("rest", [b"no request\r\n\r\n", b"POST / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000])
def test_what_is_no_request_ends_the_connection_once_the_callback_before_it_is_answered(
    service: Service, whatsapp: httpx.Client, rest: bytes
) -> None:
    name = new_wamid()

    received = exchange(service, [as_sent(meta(meta_status(name))) + rest])

    assert statuses(received) == [200]
    assert b"\r\nconnection: close\r\n" in received
    assert only(whatsapp, name)["version"] == 1


def test_a_callback_that_goes_wrong_on_its_way_is_refused_after_the_one_before_it(
    service: Service, whatsapp: httpx.Client
) -> None:
    name = new_wamid()
    begun = as_sent(meta(meta_status(new_wamid()))).partition(b"\r\ncontent-length")[0]
    chunked = begun + b"\r\ntransfer-encoding: chunked\r\n\r\nnot a length\r\n"

    assert statuses(exchange(service, [as_sent(meta(meta_status(name))) + chunked])) == [200]
    assert only(whatsapp, name)["version"] == 1
    assert statuses(exchange(service, [chunked])) == [400]


def test_an_ordinary_request_after_the_answer_is_served_on_the_same_connection(service: Service) -> None:
    with socket.create_connection(service.address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(as_sent(meta(meta_status(new_wamid()))))
        first = connection.recv(65_536)
        connection.sendall(get("/livez", CLOSE))
        second = b""
        while chunk := connection.recv(65_536):
            second += chunk

    assert (statuses(first), statuses(second)) == ([200], [200])


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_callback_that_comes_in_pieces_is_read(service: Service, whatsapp: httpx.Client, size: int) -> None:
    request = as_sent(meta(meta_status(name := new_wamid())), CLOSE)

    received = exchange(service, (request[start : start + size] for start in range(0, len(request), size)))

    assert statuses(received) == [200]
    assert only(whatsapp, name)["version"] == 1


def test_a_caller_of_an_older_protocol_is_answered_and_left(service: Service) -> None:
    received = exchange(service, [as_sent(meta(meta_status(new_wamid())), version="1.0")])

    assert statuses(received) == [200]
    assert b"\r\nconnection: close\r\n" in received


def test_header_names_count_in_any_case(service: Service) -> None:
    request = as_sent(meta(meta_status(new_wamid())), CLOSE)
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    shouted = [name.upper() + b":" + value for name, _, value in (line.partition(b":") for line in lines)]

    received = exchange(service, [b"\r\n".join([first, *shouted]) + b"\r\n\r\n" + body])

    assert statuses(received) == [200]


@pytest.mark.parametrize("callback", [meta(), twilio("SM-short"), unknown(meta()), forged(meta(meta_status("x")))])
def test_both_ways_say_the_same(service: Service, callback: Callback) -> None:
    """`Expect` sends a request the ordinary way."""
    short = exchange(service, [as_sent(callback, CLOSE)])
    ordinary = exchange(service, [as_sent(callback, "expect: 100-continue", CLOSE)])

    assert told(ordinary.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")) == told(short)


def told(received: bytes) -> tuple[bytes, set[bytes], bytes]:
    """Return status line, headers and body, without what differs from answer to answer."""
    head, _, body = received.partition(b"\r\n\r\n")
    status, *headers = head.split(b"\r\n")
    before, _, _ = body.partition(b'"request_id"')
    return status, {line for line in headers if not line.startswith((b"retry-after", b"date"))}, before


UNUSUAL = {
    "an escaped path": b"POST /webhooks/meta%2Dmain HTTP/1.1",
    "another method": b"PUT /webhooks/meta-main HTTP/1.1",
    "a full address": b"POST http://localhost/webhooks/meta-main HTTP/1.1",
    "a fragment": b"POST /webhooks/meta-main#x HTTP/1.1",
}


@pytest.mark.parametrize(("line", "expected"), [*zip(UNUSUAL.values(), [200, 405, 200, 200], strict=True)], ids=UNUSUAL)
def test_an_unusual_request_line_is_understood(service: Service, line: bytes, expected: int) -> None:
    request = as_sent(meta(meta_status(new_wamid())), CLOSE)

    received = exchange(service, [line + request[request.index(b"\r\n") :]])

    assert statuses(received) == [expected]


@pytest.mark.parametrize("size", [70_000, 300_000])
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
@pytest.mark.parametrize("path", ["/webhooks/meta-main", "/livez"])
def test_a_head_that_is_too_large_is_refused(service: Service, size: int, at_once: bool, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n".encode() + b"x-much: " + b"y" * size + b"\r\n"
    request = head + b"content-length: 0\r\n\r\n"
    step = len(request) if at_once else 10_000

    with socket.create_connection(service.address, timeout=PATIENCE_SECONDS) as connection:
        received = b""
        try:
            for start in range(0, len(request), step):
                connection.sendall(request[start : start + step])
            received = connection.recv(65_536)
        except (ConnectionResetError, BrokenPipeError):
            pass  # a reset may overtake the answer

    assert received == b"" or statuses(received) == [400]
    assert service.client().get("/livez").status_code == 200

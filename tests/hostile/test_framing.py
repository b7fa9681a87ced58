"""What is no proper HTTP, or lies about its length, or never ends: the request is refused, others go on.

The bystander of `target` delivers and reads all the while; what was sent here is on record only where it says so.
"""

import re
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from tests.hostile.conftest import Target
from tests.hostile.wire import CLOSE, as_sent, connect, exchange, request, status, statuses
from tests.http.callbacks import found
from tests.http.test_faults import RECEIVE_SECONDS_MAX
from tests.http.test_provider_requests import BY_NAME, name_of
from tests.plugins.service import eventually

META = BY_NAME["meta"]
PATH = b"/webhooks/" + name_of(META).encode()
CONNECTIONS = 300


def signed(wamid: str, *headers: tuple[bytes, bytes], target: bytes = b"") -> bytes:
    return as_sent(name_of(META), META.request(META.item(wamid, "sent")), headers, target=target)


def parts(wamid: str) -> tuple[list[bytes], bytes]:
    """Return the lines of a signed callback's head, without its length, and its body."""
    head, _, body = signed(wamid).partition(b"\r\n\r\n")
    return [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")], body


def framed(wamid: str, *lines: bytes, body: bytes | None = None) -> bytes:
    head, content = parts(wamid)
    return b"\r\n".join([*head, *lines, b"", b""]) + (content if body is None else body)


def chunked(body: bytes, size: int = 10) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def is_on_record(target: Target, wamid: str) -> bool:
    return bool(found(target.api, wamid))


def cut(target: Target, sent: bytes) -> None:
    """Send, and hang up on the sending side: the server sees the end of what was to come."""
    with connect(target.service) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


# Lengths --------------------------------------------------------------------------------------------------------------


def test_a_body_shorter_than_it_claims_is_not_recorded(target: Target) -> None:
    body = parts("wamid.short")[1]

    cut(target, framed("wamid.short", b"content-length: %d" % (len(body) + 1)))

    assert not is_on_record(target, "wamid.short")


def test_a_body_longer_than_it_claims_is_not_what_was_signed(target: Target) -> None:
    """What is left over would be the next request: it is none, and ends the connection."""
    body = parts("wamid.long")[1]

    received = exchange(target.service, framed("wamid.long", b"content-length: %d" % (len(body) - 1)))

    assert statuses(received) == [401]
    assert not is_on_record(target, "wamid.long")


def test_a_request_hidden_in_a_body_is_not_executed(target: Target) -> None:
    """A length of nothing, and another request where the body would be: it must prove itself as any other."""
    hidden = request(b"GET", b"/v1/messages", [CLOSE])

    received = exchange(target.service, request(b"POST", PATH, [], hidden, length=0))

    assert statuses(received)[0] in (401, 415)
    assert 200 not in statuses(received)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("both lengths", (b"content-length: 5", b"transfer-encoding: chunked")),
        ("chunked and something", (b"transfer-encoding: chunked, identity",)),
        ("unknown coding", (b"transfer-encoding: cow",)),
        ("chunked twice", (b"transfer-encoding: chunked", b"transfer-encoding: chunked")),
        ("tab in the coding", (b"transfer-encoding:\tchunked\x0b",)),
        ("space before the colon", (b"transfer-encoding : chunked",)),
        ("folded", (b"x-folded: a", b" content-length: 5")),
        ("plus", (b"content-length: +5",)),
        ("hexadecimal", (b"content-length: 0x10",)),
        ("list", (b"content-length: 5, 5",)),
        ("beyond 64 bits", (b"content-length: " + b"9" * 30,)),
        ("other digits", (b"content-length: \xd9\xa5",)),
        ("NUL", (b"x-nul: a\0b", b"content-length: 0")),
        ("no name", (b": x", b"content-length: 0")),
        ("a line feed alone", (b"x: a\nx-smuggled: b\n", b"content-length: 0")),
    ],
)
def test_lengths_that_can_be_read_in_two_ways_are_refused(target: Target, name: str, lines: tuple[bytes, ...]) -> None:
    wamid = f"wamid.ambiguous.{name}"

    received = exchange(target.service, framed(wamid, *lines, CLOSE[0] + b": " + CLOSE[1]), seconds=8)

    assert statuses(received)[:1] in ([400], [401], [411], [413], [501], [])
    assert not [told for told in statuses(received) if told >= 500 and told != 501]
    assert not is_on_record(target, wamid)


# Chunks ---------------------------------------------------------------------------------------------------------------

CHUNKED = b"transfer-encoding: chunked"


def test_chunks_that_tell_the_truth_are_read(target: Target) -> None:
    """The other half of the lies below."""
    sent = framed("wamid.chunks", CHUNKED, b"connection: close", body=chunked(parts("wamid.chunks")[1]))

    assert status(target.service, sent) == 200
    assert is_on_record(target, "wamid.chunks")


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("larger than it is", lambda body: b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) + 100, body)),
        ("smaller than it is", lambda body: b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) - 5, body)),
        ("negative", lambda body: b"-5\r\n%s\r\n0\r\n\r\n" % body),
        ("beyond 64 bits", lambda body: b"F" * 20 + b"\r\n%s\r\n0\r\n\r\n" % body),
        ("beyond memory", lambda body: b"7FFFFFFFFFFFFFFF\r\n%s\r\n0\r\n\r\n" % body),
        ("no number", lambda body: b"\xd9\xa5\r\n%s\r\n0\r\n\r\n" % body),
        ("without a last one", lambda body: b"%x\r\n%s\r\n" % (len(body), body)),
        ("with a long extension", lambda body: b"%x;%s\r\n%s\r\n" % (len(body), b"x" * 1_000_000, body)),
        ("with many trailers", lambda body: b"%x\r\n%s\r\n0\r\n%s" % (len(body), body, b"x: y\r\n" * 200_000)),
    ],
)
def test_a_chunk_that_lies_is_not_recorded(target: Target, name: str, lie: object) -> None:
    wamid = f"wamid.chunk.{name}"
    assert callable(lie)

    with suppress(ConnectionResetError, BrokenPipeError):  # the server need not read on
        cut(target, framed(wamid, CHUNKED, body=lie(parts(wamid)[1])))

    assert not is_on_record(target, wamid)


def test_a_million_chunks_of_a_byte_are_one_body(target: Target) -> None:
    chunks = b"1\r\n[\r\n" * 200_000 + b"0\r\n\r\n"

    assert status(target.service, framed("wamid.tiny", CHUNKED, b"connection: close", body=chunks)) == 401


# Heads ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, b"/v1/messages", b"/livez", b"/"])
@pytest.mark.parametrize(
    "flood",
    [
        [(b"x", b"y")] * 60_000,
        [(b"x-%d" % number, b"") for number in range(40_000)],
        [(b"cookie", b"a=b; " * 40_000)],
        [(b"x" * 200_000, b"y")],
        [(b"authorization", b"Bearer " + b"a" * 200_000)],
    ],
    ids=["one name", "many names", "a cookie", "a name", "a key"],
)
def test_a_flood_of_headers_is_refused(target: Target, path: bytes, flood: list[tuple[bytes, bytes]]) -> None:
    assert status(target.service, request(b"POST", path, [*flood, CLOSE])) in (
        0,
        400,
    )  # a reset may overtake the answer


def test_many_small_headers_are_no_flood(target: Target) -> None:
    many = [(b"x-%d" % number, b"y") for number in range(2_000)]

    assert status(target.service, signed("wamid.many-headers", *many, CLOSE)) == 200


def test_a_target_of_any_length_is_refused_beyond_the_limit(target: Target) -> None:
    for path in (PATH, b"/v1/messages", b"/"):
        assert status(target.service, request(b"GET", path + b"?q=" + b"x" * 200_000, [CLOSE])) in (0, 400)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET http://mallory.example/livez HTTP/1.1", 200),
        (b"GET https://localhost:1/livez HTTP/1.1", 200),
        (b"GET http:///livez HTTP/1.1", 400),
        (b"GET //mallory.example/livez HTTP/1.1", 404),
        (b"GET * HTTP/1.1", 404),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"CONNECT mallory.example:443 HTTP/1.1", 400),
        (b"GET livez HTTP/1.1", 400),
        (b"GET /livez\0 HTTP/1.1", 400),
        (b"GET /li vez HTTP/1.1", 400),
        (b"GET /\xff\xfe HTTP/1.1", 400),
        (b"GET /../../etc/passwd HTTP/1.1", 404),
        (b"GET /static/..%2f..%2fsettings.py HTTP/1.1", 404),
        (b"GET /livez HTTP/2.0", 200),  # understood and answered as 1.1
        (b"GET /livez HTTP/0.9", 200),
        (b"GET /livez HTTP/3.0", 400),
        (b"PRI * HTTP/2.0", 400),
        (b"get /livez HTTP/1.1", 400),
        (b"", 400),
    ],
)
def test_an_odd_request_line_leads_nowhere_else(target: Target, line: bytes, expected: int) -> None:
    answer = status(target.service, line + b"\r\nhost: localhost\r\nconnection: close\r\n\r\n")

    assert answer == expected


@pytest.mark.parametrize(
    "upgrade", [(b"upgrade", b"websocket"), (b"upgrade", b"h2c"), (b"upgrade", b"TLS/1.0"), (b"expect", b"200-ok")]
)
def test_an_upgrade_is_not_made(target: Target, upgrade: tuple[bytes, bytes]) -> None:
    more = [(b"connection", b"upgrade, http2-settings"), (b"http2-settings", b"AAMAAABkAARAAAAAAAIAAAAA"), upgrade]

    for path in (b"/livez", b"/v1/events", PATH):
        received = exchange(target.service, request(b"GET", path, [*more, CLOSE]), seconds=3)
        assert not re.search(rb"HTTP/1\.1 (101|5\d\d)", received)


# Slowness -------------------------------------------------------------------------------------------------------------


def test_hundreds_of_connections_that_send_nothing_more_are_closed(target: Target) -> None:
    """Half of them stop in the head, half in the body. Their time is limited by the protocol, not by this test."""
    heads = [b"POST " + PATH + b" HTTP/1.1\r\nhost: x\r\n", framed("wamid.slow", b"content-length: 100000", body=b"{")]
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(target.service)) for _ in range(CONNECTIONS)]
        for number, connection in enumerate(opened):
            connection.sendall(heads[number % 2])
        began = time.monotonic()
        eventually(lambda: all(map(is_closed, opened)), "all are closed", 3 * RECEIVE_SECONDS_MAX)
        assert time.monotonic() - began > 1  # they were kept, not turned away
    assert not is_on_record(target, "wamid.slow")


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(65_536) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_whoever_does_not_read_the_answers_is_no_burden(target: Target) -> None:
    """Requests for a large answer, one behind the other on each connection, and none is read."""
    sent = request(b"GET", b"/openapi.json") * 200
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(target.service)) for _ in range(50)]
        for connection in opened:
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(sent)
        assert status(target.service, request(b"GET", b"/livez", [CLOSE])) == 200

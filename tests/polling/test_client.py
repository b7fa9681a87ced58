"""The HTTP client: what it takes for an answer, what it keeps to itself, whom it trusts."""

import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ledger.polling import client as module
from ledger.polling.client import Client, NoAnswer
from ledger.wire.contract import Ask, Polling, Secret

Answer = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[Answer], "Server"]
SECRET = "the secret of an API"
QUESTION = Ask("/messages/+15550100?x=1", (("authorization", Secret(SECRET)),))


class Server:
    """A server that answers as a test says, and what was asked of it."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                server.asked.append((self.path, dict(self.headers.items())))
                answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.block_on_close = False
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[Server] = []

    def start(answer: Answer) -> Server:
        made.append(Server(answer))
        return made[-1]

    yield start
    for server in made:
        server.close()


def says(status: int, body: bytes = b"{}", **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response_only(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def ask(url: str, question: Ask = QUESTION, **told: Any) -> module.Answer:
    client = Client(Polling(base_url=url, secret=Secret(SECRET), **{"timeout_seconds": 2.0, **told}))
    try:
        return client.get(question)
    finally:
        client.close()


def test_a_question_is_sent_as_it_is_and_its_answer_returned_whole(serve: Serve) -> None:
    server = serve(says(200, b'{"a": 1}', content_type="application/vnd.x+json; charset=utf-8", retry_after="3"))

    answer = ask(f"{server.url}/base")

    assert (answer.status, answer.body, answer.is_json, answer.retry_after) == (200, b'{"a": 1}', True, 3)
    ((path, headers),) = server.asked
    assert path == "/base/messages/+15550100?x=1"
    assert headers["authorization"] == SECRET


def test_a_redirect_is_not_followed(serve: Serve) -> None:
    elsewhere = serve(says(200))
    server = serve(says(302, location=f"{elsewhere.url}/x"))

    assert ask(server.url).status == 302
    assert elsewhere.asked == []


def test_connections_are_used_again(serve: Serve) -> None:
    ports: set[int] = set()

    def answer(request: BaseHTTPRequestHandler) -> None:
        ports.add(request.client_address[1])
        says(200)(request)

    server = serve(answer)
    client = Client(Polling(base_url=server.url, secret=Secret(SECRET)))
    for _ in range(5):
        client.get(QUESTION)
    client.close()

    assert len(ports) == 1


def test_an_answer_that_drips_is_given_up(serve: Serve) -> None:
    """Every piece comes in time, and all of it does not."""
    stop = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response_only(200)
        request.send_header("content-length", "1000")
        request.end_headers()
        try:
            while not stop.wait(0.1):
                request.wfile.write(b" ")
                request.wfile.flush()
        except OSError:
            request.close_connection = True

    server = serve(answer)
    begun = time.monotonic()
    with pytest.raises(NoAnswer, match="timeout"):
        ask(server.url, timeout_seconds=0.5)
    stop.set()

    assert time.monotonic() - begun < 2


def test_an_answer_beyond_any_size_is_not_read(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_BYTES_MAX", 1_000)

    with pytest.raises(NoAnswer, match="too_large"):
        ask(serve(says(200, b"x" * 5_000)).url)


def test_nobody_there_is_no_answer_and_nothing_of_the_question_is_told() -> None:
    with pytest.raises(NoAnswer) as raised:
        ask("http://127.0.0.1:1")

    assert str(raised.value) == "unreachable"


@pytest.mark.parametrize("target", ["/x y", "/\x00", "/\x7f"])
def test_an_odd_target_is_no_answer(serve: Serve, target: str) -> None:
    """None is ever made: should one be, it must not end the poller."""
    server = serve(says(200))

    try:
        answered = ask(server.url, Ask(target)).status
    except NoAnswer:
        answered = 200

    assert answered == 200


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    file = tmp_path / "server.pem"
    file.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = Server(says(200), context)

    with pytest.raises(NoAnswer, match="unreachable"):
        ask(server.url)
    server.close()

    assert server.asked == []


@pytest.mark.parametrize("piece", [b"x-more: 1\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_answer_whose_headers_drip_is_given_up(piece: bytes) -> None:
    """Each piece comes in time, and the last one never."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(9_999)
                if piece.startswith(b"x-"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\n")
                try:
                    while not stop.wait(0.05):
                        connection.sendall(piece)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        with pytest.raises(NoAnswer, match="timeout"):
            ask(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout_seconds=0.5)
        took = time.monotonic() - begun
        stop.set()
        thread.join()

    assert took < 2


@pytest.mark.parametrize("secret", ["a secret\r\nx: y", "a secret\0", "a secret "])
def test_a_secret_that_no_header_can_hold_is_in_no_traceback(serve: Serve, secret: str) -> None:
    """What finds fault with a header quotes it."""
    server = serve(says(200))

    with pytest.raises(NoAnswer, match="bad_header") as raised:
        ask(server.url, Ask("/", (("authorization", Secret(secret)),)))

    assert "a secret" not in "".join(traceback.format_exception(raised.value, chain=True))
    assert server.asked == []

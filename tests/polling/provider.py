"""Other people's servers, over a real socket: Twilio's Messages resource and Meta's message history, with faults.

A test puts the truth in, says which fault the next questions meet, and looks at what was asked. Time is whatever the
test's clock says; nothing here sleeps: a question that hangs is held until the server is closed.
"""

import base64
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

ACCOUNT = "AC" + "0" * 31 + "1"
TOKEN = "the auth token of an account"
PHONE = "106540352242922"
ACCESS = "the access token of an app"


class Question(NamedTuple):
    """A question that came in: when by the test's clock and by a real one, and what for."""

    at: datetime
    counted: float
    path: str
    fault: str | None

    @property
    def reference(self) -> str:
        """The message that was asked about; empty for a page of a list."""
        parts = urlsplit(self.path)
        if "message_id" in parse_qs(parts.query):
            return parse_qs(parts.query)["message_id"][0]
        name = parts.path.rpartition("/")[2]
        return "" if name == "Messages.json" else name.removesuffix(".json")


#: Returns the fault that a question meets: see `Handler._fail`. None: it is answered.
Faults = Callable[[str], str | None]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of those who were killed with a connection open."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Provider:
    """A provider's server. `truth` is what it knows by id: fields of its answer, or what returns them for a time."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.truth: dict[str, Any] = {}
        self.questions: list[Question] = []
        self.faults: Faults = lambda _path: None
        self.retry_after: str | None = None
        self.page_size = 1_000
        self.pages_repeat = False
        self.clock_skew = timedelta()
        self.at_once = self.at_once_most = 0
        self.arrived = threading.Semaphore(0)  #: released for every question, before it is answered
        self.hold: threading.Event | None = None  #: questions wait for it before they are answered
        self._now = now
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def asked(self) -> list[str]:
        """The messages asked about, in order."""
        return [question.reference for question in self.questions]

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer leaves in one piece
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                with provider._lock:
                    provider.at_once += 1
                    provider.at_once_most = max(provider.at_once_most, provider.at_once)
                    fault = provider.faults(self.path)
                    provider.questions.append(Question(provider._now(), time.monotonic(), self.path, fault))
                provider.arrived.release()
                try:
                    if provider.hold is not None:
                        provider.hold.wait(30)
                    self._answer(fault)
                except (BrokenPipeError, ConnectionResetError):  # whoever asked is gone
                    self.close_connection = True
                finally:
                    with provider._lock:
                        provider.at_once -= 1

            def _answer(self, fault: str | None) -> None:
                status, told = provider._answer(self.path, self.headers.get("authorization", ""))
                body = json.dumps(told).encode()
                match fault:
                    case None:
                        self._send(status, body)
                    case "429":
                        self._send(429, b'{"code": 20429, "message": "Too Many Requests", "status": 429}')
                    case "500" | "503":
                        self._send(int(fault), b"<html>oops</html>", "text/html")
                    case "401":
                        self._send(401, b'{"code": 20003, "message": "Authenticate", "status": 401}')
                    case "hang":
                        provider._closing.wait(30)
                        self.close_connection = True
                    case "reset":
                        self.wfile.flush()
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        self.connection.close()
                        self.close_connection = True
                    case "cut short":
                        self._send(200, body[: len(body) // 2], length=len(body))
                    case "truncated":
                        self._send(200, body[: len(body) // 2])
                    case "plain":
                        self._send(200, body, "text/plain")
                    case "html":
                        self._send(200, b"<html>maintenance</html>", "text/html")
                    case "another":
                        self._send(200, body.replace(b'"sid": "SM', b'"sid": "SX'))
                    case _:
                        raise AssertionError(fault)

            def _send(
                self, status: int, body: bytes, kind: str = "application/json", length: int | None = None
            ) -> None:
                self.send_response_only(status)
                self.send_header("date", format_datetime(provider._now() + provider.clock_skew, usegmt=True))
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body) if length is None else length))
                if status == 429 and provider.retry_after is not None:
                    self.send_header("retry-after", provider.retry_after)
                self.end_headers()
                self.wfile.write(body)
                if length is not None:
                    self.close_connection = True

        return Handler

    def told(self, reference: str) -> dict[str, Any]:
        """What the provider knows of a message by now."""
        truth = self.truth[reference]
        return truth(self._now()) if callable(truth) else truth

    def _answer(self, path: str, authorization: str) -> tuple[int, Any]:
        raise NotImplementedError


class Twilio(Provider):
    """`/2010-04-01/Accounts/{AC}/Messages/{Sid}.json` and the list, newest first."""

    def _answer(self, path: str, authorization: str) -> tuple[int, Any]:
        expected = b"Basic " + base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode())
        if authorization.encode() != expected:
            return 401, {"code": 20003, "message": "Authenticate", "status": 401}
        parts = urlsplit(path)
        base = f"/2010-04-01/Accounts/{ACCOUNT}/Messages"
        if parts.path == f"{base}.json":
            return 200, self._page(base, parse_qs(parts.query))
        sid = parts.path.removeprefix(f"{base}/").removesuffix(".json")
        if sid not in self.truth:
            return 404, {"code": 20404, "message": "not found", "status": 404}
        return 200, self._message(sid)

    def _message(self, sid: str) -> dict[str, Any]:
        updated = format_datetime((self._now() + self.clock_skew).astimezone(UTC), usegmt=False)
        return {
            "sid": sid,
            "account_sid": ACCOUNT,
            "api_version": "2010-04-01",
            "body": "synthetic",
            "date_created": updated,
            "date_sent": updated,
            "date_updated": updated,
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": "+12025550100",
            "to": "+12025550111",
            "messaging_service_sid": None,
            "num_media": "0",
            "num_segments": "1",
            "price": None,
            "price_unit": "USD",
            "subresource_uris": {},
            "uri": f"/2010-04-01/Accounts/{ACCOUNT}/Messages/{sid}.json",
            **self.told(sid),
        }

    def _page(self, base: str, query: dict[str, list[str]]) -> dict[str, Any]:
        since = query["DateSent>"][0]
        begin = int(query.get("Page", ["0"])[0]) * self.page_size
        sids = list(self.truth)[::-1]
        more = begin + self.page_size < len(sids)
        page = 0 if self.pages_repeat else begin // self.page_size + 1
        following = f"{base}.json?DateSent%3E={since}&PageSize=1000&Page={page}&PageToken=PASM"
        return {
            "messages": [self._message(sid) for sid in sids[begin : begin + self.page_size]],
            "page": begin // self.page_size,
            "next_page_uri": following if more or self.pages_repeat else None,
        }


class Meta(Provider):
    """`/v23.0/{phone number id}/message_history`, in either of its vocabularies."""

    def _answer(self, path: str, authorization: str) -> tuple[int, Any]:
        if authorization != f"Bearer {ACCESS}":
            return 400, {"error": {"message": "Invalid OAuth access token", "type": "OAuthException", "code": 190}}
        parts = urlsplit(path)
        assert parts.path == f"/v23.0/{PHONE}/message_history", path
        wamid = parse_qs(parts.query)["message_id"][0]
        if wamid not in self.truth:
            return 200, {"data": []}
        events = [{"webhook_update_state": "FAILED", **event} for event in self.told(wamid)["events"]]
        entry = {"id": "1", "message_id": wamid, "events": {"data": events}}
        return 200, {"data": [entry], "paging": {"cursors": {"before": "a", "after": "b"}}}


class Once(Provider):
    """A provider that tells each report one time only, as Infobip's `/sms/3/reports` does."""

    def _answer(self, path: str, authorization: str) -> tuple[int, Any]:
        if authorization != f"App {TOKEN}":
            return 401, {"requestError": {}}
        message_id = parse_qs(urlsplit(path).query)["messageId"][0]
        report = self.truth.pop(message_id, None)
        return 200, {"results": [] if report is None else [{"messageId": message_id, **report}]}


@contextmanager
def running(provider: Provider) -> Iterator[Provider]:
    try:
        yield provider
    finally:
        provider.close()

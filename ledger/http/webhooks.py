"""Where providers call: `/webhooks/{account}`.

200 is said only after the commit: for everything authentic, whether recorded, known already, or kept because it could
not be read. Whoever is not the provider gets 401; what cannot be committed gets 503, so that the provider comes back.

A request is admitted by its head, then taken with its body and a function to answer it with; that needs no task of its
own. Nearly all callbacks come in through `ledger.http.protocol`, the rest through ASGI.
"""

import asyncio
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple
from uuid import UUID, uuid4

import structlog
from starlette.types import Receive, Scope, Send

from ledger.domain.events import StatusObserved
from ledger.http import metrics
from ledger.http.edge import ANSWER_SECONDS_MAX, Edge
from ledger.http.problems import CONTENT_TYPE, Problem, body_of, unavailable
from ledger.ingest.accept import Accepted, Intake, Unauthentic
from ledger.ingest.writer import Done, Job, Poisoned, QueueFull
from ledger.store.application import StoreUnavailable
from ledger.wire.contract import Headers, Webhook

PATH: Final = "/webhooks/"
#: What bodies that are being received may take of memory together, whoever sends them: nobody has proved anything yet.
RECEIVED_BYTES_MAX: Final = 64 * 1024 * 1024
#: What a handshake may make us repeat.
CHALLENGE: Final = re.compile(r"[0-9A-Za-z_-]{1,100}")

_log = structlog.get_logger("ledger.webhooks")


class Admitted(NamedTuple):
    """A request whose head may go on: its account exists, and method and content type are its provider's."""

    intake: Intake
    method: str
    query: bytes  #: raw, without "?"
    headers: Headers
    content_type: str


class Answer(NamedTuple):
    status: int
    content_type: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()  #: besides those that every answer has


#: On record: the answer to nearly every callback.
TAKEN: Final = Answer(200, b"text/plain; charset=utf-8", b"")
#: What every answer carries besides its content type and length.
ALWAYS: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))

Reply = Callable[[Answer], None]
#: What a report by GET is: its query string.
QUERY_TYPE: Final = "application/x-www-form-urlencoded"


def announce(account: str, url: str) -> None:
    """Tell whoever reads the log that a provider offers a subscription, and where to accept it."""
    _log.warning("subscription_offered", account=account, confirm_url=url)


class Room:
    """What is left for bodies that are being received."""

    def __init__(self, bytes_max: int = RECEIVED_BYTES_MAX) -> None:
        self.bytes_left = bytes_max

    def take(self, count: int) -> bool:
        """Take so many bytes; False if there are not as many left, and they are not taken."""
        if count > self.bytes_left:
            return False
        self.bytes_left -= count
        return True

    def give_back(self, count: int) -> None:
        self.bytes_left += count


class Disconnected(Exception):
    """The caller went away before its request was complete."""


class Webhooks:
    """Answers every request to `/webhooks/…`; raises nothing."""

    def __init__(
        self,
        intakes: Mapping[str, Intake],
        edge: Edge,
        *,
        body_bytes_max: int,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        confirm: Callable[[str, str], None] = announce,
        count: Callable[[str, int], None] = lambda _account, _answer: None,
        refused: Callable[[str, Problem, UUID], None] = lambda _account, _problem, _request_id: None,
    ) -> None:
        """`confirm` gets an account and the address by which its provider's offer of a subscription is accepted.

        It is called only for addresses that the adapter has verified, after everything else is on record. `count`
        gets the answer to every callback of a known account that was taken, `refused` what others were told.
        """
        self._intakes = intakes
        self._edge = edge
        self.body_bytes_max = body_bytes_max
        self.room = Room()
        self._now = now
        self._confirm = confirm
        self._count_answer = count
        self._refused = refused
        self._tasks: set[asyncio.Task[None]] = set()
        self._complete: list[tuple[Admitted, bytes, Reply]] = []  #: requests that nobody has read yet

    def admit(self, name: str, method: str, query: bytes, headers: Headers) -> Admitted | Answer:
        """Look at a request's head. An answer means that whatever the body says, this is what it is told."""
        try:
            intake = self._intakes.get(name)
            if intake is None:
                raise Problem("account_unknown", "No account of this name is configured.")
            provider = intake.provider
            if method == "GET" and (provider.handshake is not None or method in provider.methods):
                return Admitted(intake, method, query, headers, QUERY_TYPE)
            if method not in provider.methods:
                allowed = sorted(provider.methods)
                detail = f"Callbacks are sent with {' or '.join(allowed)}."
                raise Problem("method_not_allowed", detail, headers={"allow": ", ".join(allowed)})
            content_type = _content_type(headers, intake)
            length = headers.first("content-length")
            if length is not None and length.isdigit() and int(length[:12]) > self.body_bytes_max:
                raise self.too_large()
            if self._edge.is_full:
                raise unavailable()
        except Problem as problem:
            return self.refusal(name, problem)
        return Admitted(intake, method, query, headers, content_type)

    def take(self, admitted: Admitted, body: bytes, reply: Reply) -> None:
        """Answer a complete request through `reply`, soon or once it is committed.

        What comes in the same turn of the event loop is read account by account, forms apart from JSON: the code that
        reads a request is then at hand for the next one too, which is cheaper where several providers call.
        """
        if not self._complete:
            asyncio.get_running_loop().call_soon(self._take_all)
        self._complete.append((admitted, body, reply))

    def _take_all(self) -> None:
        complete, self._complete = self._complete, []
        if len(complete) > 1:
            complete.sort(key=_kind_of)
        for admitted, body, reply in complete:
            try:
                self._take(admitted, body, reply)
            except Exception:  # of its own connection: others that came with it are to be answered
                _log.exception("webhook_unanswered", account=admitted.intake.account.name)

    def _take(self, admitted: Admitted, body: bytes, reply: Reply) -> None:
        try:
            if admitted.method == "GET" and admitted.intake.provider.handshake is not None:
                reply(self._handshake(admitted))
            elif self._edge.is_full:  # by now: others of the same turn came first
                raise unavailable()
            else:
                self._record(admitted, body, reply)
        except Exception as error:
            reply(self.refusal(admitted.intake.account.name, error))

    def refusal(self, name: str, error: Exception) -> Answer:
        """Return the answer that says what is wrong, and count it."""
        account = name if name in self._intakes else "?"
        request = uuid4()
        request_id = str(request)
        match error:
            case Problem():
                problem = error
                if problem.status >= 500:
                    _log.warning("webhook_refused", account=account, code=problem.code, request_id=request_id)
            case QueueFull() | StoreUnavailable():
                problem = unavailable()
                _log.warning("webhook_refused", account=account, code=problem.code, request_id=request_id)
            case _:
                # Never a 500: the provider shall come back, and a bug of ours must not look like its fault.
                problem = unavailable()
                _log.error("webhook_failed", account=account, request_id=request_id, exc_info=error)
        metrics.count_webhook(account, problem.status)
        if account != "?":
            self._refused(account, problem, request)
        headers = tuple((key.encode(), value.encode()) for key, value in problem.headers.items())
        return Answer(problem.status, CONTENT_TYPE.encode(), body_of(problem, request_id), headers)

    def too_large(self) -> Problem:
        detail = f"The limit is {self.body_bytes_max} bytes."
        return Problem("body_too_large", detail, headers={"connection": "close"})

    def no_room(self) -> Problem:
        problem = unavailable("Too much is being received at once.")
        problem.headers["connection"] = "close"
        return problem

    def _handshake(self, admitted: Admitted) -> Answer:
        intake = admitted.intake
        if intake.account.verify_token is None:
            raise Problem("not_found", "This account has no verify_token, so there is no handshake.")
        assert intake.provider.handshake is not None  # noqa: S101  # nothing else is admitted with GET
        challenge = intake.provider.handshake(_webhook(admitted, b"", self._now()), intake.account)
        if challenge is None or not CHALLENGE.fullmatch(challenge):
            raise Problem("handshake_refused", "Mode, token and challenge must be those of a subscription.")
        metrics.count_webhook(intake.account.name, 200)
        return TAKEN._replace(body=challenge.encode())

    def _record(self, admitted: Admitted, body: bytes, reply: Reply) -> None:
        started, received_at = time.perf_counter(), self._now()
        intake, content_type, webhook = admitted.intake, admitted.content_type, _webhook(admitted, body, received_at)
        try:
            accepted = intake.accept(webhook, received_at, content_type)
        except Unauthentic:
            asks_again = intake.provider.asks_again
            if asks_again is not None and asks_again(webhook, intake.account):
                raise unavailable("The request cannot be authenticated as it is. Send it again, signed.") from None
            raise Problem("not_authentic", "No signature of this account's secrets matches the request.") from None

        def ended(job: Job, error: Exception | None) -> None:
            if error is None:
                assert job.done is not None  # noqa: S101  # a job without an error has been done
                self._count(intake, job.done)
                self._taken(intake, accepted, started)
                reply(TAKEN)
            elif isinstance(error, Poisoned):
                kept = intake.set_aside(webhook, "a statement could not be recorded", received_at, content_type)
                self._spawn(self._salvage(intake, accepted, kept, started, reply))
            else:
                reply(self.refusal(intake.account.name, error))

        job = accepted.job
        if job.statements or job.captures:
            self._edge.submit(job, ended)
        else:
            self._taken(intake, accepted, started)
            reply(TAKEN)

    def _taken(self, intake: Intake, accepted: Accepted, started: float) -> None:
        """Note that a request is on record, and what is remarkable about it."""
        captures, alerts = accepted.job.captures, accepted.parsed.alerts
        if captures:
            metrics.CAPTURED.labels(intake.account.provider).inc(len(captures))
            _log.warning("webhook_captured", account=intake.account.name, items=len(captures))
        if alerts:
            metrics.ALERTS.labels(intake.account.name).inc(len(alerts))
            _log.warning("account_alert", account=intake.account.name, codes=list(alerts))
        if accepted.parsed.confirm_url is not None:
            self._confirm(intake.account.name, accepted.parsed.confirm_url)
        metrics.count_webhook(intake.account.name, 200)
        self._count_answer(intake.account.name, 200)
        metrics.SECONDS.observe(time.perf_counter() - started)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _salvage(self, intake: Intake, accepted: Accepted, kept: Job, started: float, reply: Reply) -> None:
        """Record the statements of a request one by one, and keep the request if one of them cannot be."""
        deadline = started + ANSWER_SECONDS_MAX

        async def alone(job: Job) -> bool:
            try:
                self._count(intake, await self._edge.write(job, max(0.1, deadline - time.perf_counter())))
            except Poisoned:
                _log.exception("statement_poisoned", account=intake.account.name)
                return False
            return True

        try:
            jobs = [Job([statement]) for statement in accepted.job.statements]
            recorded = await asyncio.gather(*map(alone, jobs))
            if not all(recorded) or accepted.job.captures:
                await self._edge.write(kept, max(0.1, deadline - time.perf_counter()))
                metrics.CAPTURED.labels(intake.account.provider).inc()
        except Exception as error:
            reply(self.refusal(intake.account.name, error))
        else:
            self._taken(intake, accepted, started)
            reply(TAKEN)

    def _count(self, intake: Intake, done: Done) -> None:
        provider = intake.account.provider
        if done.redelivered:
            metrics.REDELIVERED.labels(provider).inc(done.redelivered)
        for event in done.events:
            if isinstance(event, StatusObserved):
                metrics.count_observation(provider, event.verdict)
                if not event.recognised:
                    metrics.UNRECOGNISED.labels(provider).inc()

    # ASGI -------------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"][len(PATH) :]
        answer = self.admit(name, scope["method"], scope["query_string"], Headers(scope["headers"]))
        if isinstance(answer, Admitted):
            replied: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            try:
                body = await self._body(receive)
            except Disconnected:
                metrics.count_webhook(name, "disconnected")
                return
            except Problem as problem:
                answer = self.refusal(name, problem)
            else:
                self.take(answer, body, partial(_settle, replied))
                answer = await replied
        length = str(len(answer.body)).encode()
        told = [(b"content-type", answer.content_type), (b"content-length", length), *ALWAYS, *answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": told})
        await send({"type": "http.response.body", "body": answer.body})

    async def _body(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Disconnected
                chunk = message.get("body", b"")
                if size + len(chunk) > self.body_bytes_max:
                    raise self.too_large()
                if not self.room.take(len(chunk)):
                    raise self.no_room()
                size += len(chunk)
                chunks.append(chunk)
                more = message.get("more_body", False)
            return b"".join(chunks)
        finally:
            self.room.give_back(size)


def _kind_of(request: tuple[Admitted, bytes, Reply]) -> tuple[str, str]:
    admitted = request[0]
    return admitted.content_type, admitted.intake.account.name


def _settle(future: asyncio.Future[Answer], answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _webhook(admitted: Admitted, body: bytes, received_at: datetime) -> Webhook:
    url, query = admitted.intake.account.public_url, admitted.query
    if query:
        url = f"{url}{'&' if '?' in url else '?'}{query.decode('latin-1')}"
    return Webhook(
        method=admitted.method, url=url, query=query, headers=admitted.headers, body=body, received_at=received_at
    )


def _content_type(headers: Headers, intake: Intake) -> str:
    """Return the media type, lower case, without parameters. Absent is accepted: the adapter looks at the body."""
    if headers.first("content-encoding") not in (None, b"", b"identity"):
        raise Problem("content_type_unsupported", "Compressed bodies are not accepted.")
    media_type = headers.media_type()
    if media_type is None:
        return ""
    if media_type not in intake.provider.content_types:
        accepted = ", ".join(sorted(intake.provider.content_types))
        raise Problem("content_type_unsupported", f"This account accepts {accepted}.")
    return media_type

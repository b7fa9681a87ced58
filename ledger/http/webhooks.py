"""Where providers call: `/webhooks/{account}`, a lean ASGI application beside the routed one.

200 is said only after the commit: for everything authentic, whether recorded, known already, or kept because it could
not be read. Whoever is not the provider gets 401; what cannot be committed gets 503, so that the provider comes back.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog
from starlette.types import Receive, Scope, Send

from ledger.domain.events import StatusObserved
from ledger.http import metrics
from ledger.http.edge import ANSWER_SECONDS_MAX, Edge
from ledger.http.problems import CONTENT_TYPE, Problem, body_of, unavailable
from ledger.ingest.accept import Accepted, Intake, Unauthentic
from ledger.ingest.writer import Done, Job, Poisoned
from ledger.wire.contract import Headers, Webhook

PATH: Final = "/webhooks/"
#: What a handshake may make us repeat.
CHALLENGE: Final = re.compile(r"[0-9A-Za-z_-]{1,100}")

_log = structlog.get_logger("ledger.webhooks")


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
    ) -> None:
        self._intakes = intakes
        self._edge = edge
        self._body_bytes_max = body_bytes_max
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"][len(PATH) :]
        account = name if name in self._intakes else "?"
        request_id = str(uuid4())
        try:
            status, headers, content_type = 200, {}, b"text/plain; charset=utf-8"
            body = await self._answer(name, scope, receive)
        except Disconnected:
            metrics.WEBHOOKS.labels(account, "disconnected").inc()
            return
        except Problem as problem:
            status, headers, content_type = problem.status, problem.headers, CONTENT_TYPE.encode()
            body = body_of(problem, request_id)
            if status >= 500:
                _log.warning("webhook_refused", account=account, code=problem.code, request_id=request_id)
        except Exception:
            # Never a 500: the provider shall come back, and a bug of ours must not look like its fault.
            failed = unavailable()
            status, headers, content_type = failed.status, failed.headers, CONTENT_TYPE.encode()
            body = body_of(failed, request_id)
            _log.exception("webhook_failed", account=account, request_id=request_id)
        metrics.WEBHOOKS.labels(account, str(status)).inc()
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    (b"content-type", content_type),
                    (b"content-length", str(len(body)).encode()),
                    (b"x-content-type-options", b"nosniff"),
                    (b"cache-control", b"no-store"),
                    *((key.encode(), value.encode()) for key, value in headers.items()),
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, name: str, scope: Scope, receive: Receive) -> bytes:
        intake = self._intakes.get(name)
        if intake is None:
            raise Problem("account_unknown", "No account of this name is configured.")
        headers = Headers(scope["headers"])
        if scope["method"] == "GET" and intake.provider.handshake is not None:
            return self._handshake(intake, scope, headers)
        if scope["method"] != "POST":
            raise Problem("method_not_allowed", "Callbacks are sent with POST.", headers={"allow": "POST"})
        content_type = _content_type(headers, intake)
        body = await self._body(receive, headers)
        return await self._record(intake, _webhook(intake, scope, headers, body), content_type)

    def _handshake(self, intake: Intake, scope: Scope, headers: Headers) -> bytes:
        if intake.account.verify_token is None:
            raise Problem("not_found", "This account has no verify_token, so there is no handshake.")
        assert intake.provider.handshake is not None  # noqa: S101  # the caller looked
        challenge = intake.provider.handshake(_webhook(intake, scope, headers, b""), intake.account)
        if challenge is None or not CHALLENGE.fullmatch(challenge):
            raise Problem("handshake_refused", "Mode, token and challenge must be those of a subscription.")
        return challenge.encode()

    async def _body(self, receive: Receive, headers: Headers) -> bytes:
        told = headers.first("content-length")
        too_large = Problem(
            "body_too_large", f"The limit is {self._body_bytes_max} bytes.", headers={"connection": "close"}
        )
        if told is not None and told.isdigit() and int(told[:12]) > self._body_bytes_max:
            raise too_large
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False):
            if len(body) > self._body_bytes_max:
                raise too_large
            return body
        chunks, size = [body], len(body)
        while message["type"] == "http.request" and message.get("more_body", False):
            if size > self._body_bytes_max:
                raise too_large
            message = await receive()
            chunk = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
        if message["type"] != "http.request":
            raise Disconnected
        if size > self._body_bytes_max:
            raise too_large
        return b"".join(chunks)

    async def _record(self, intake: Intake, webhook: Webhook, content_type: str) -> bytes:
        started, received_at = time.perf_counter(), self._now()
        try:
            accepted = intake.accept(webhook, received_at, content_type)
        except Unauthentic:
            raise Problem("not_authentic", "No signature of this account's secrets matches the request.") from None
        job = accepted.job
        if job.statements or job.captures:
            try:
                self._count(intake, await self._edge.write(job))
            except Poisoned:
                kept = intake.set_aside(webhook, "a statement could not be recorded", received_at, content_type)
                await self._salvage(intake, accepted, kept, deadline=started + ANSWER_SECONDS_MAX)
            if job.captures:
                metrics.CAPTURED.labels(intake.account.provider).inc(len(job.captures))
                _log.warning("webhook_captured", account=intake.account.name, items=len(job.captures))
        if accepted.parsed.alerts:
            metrics.ALERTS.labels(intake.account.name).inc(len(accepted.parsed.alerts))
            _log.warning("account_alert", account=intake.account.name, codes=list(accepted.parsed.alerts))
        metrics.SECONDS.observe(time.perf_counter() - started)
        return b""

    async def _salvage(self, intake: Intake, accepted: Accepted, kept: Job, *, deadline: float) -> None:
        """Record the statements of a request one by one, and keep the request if one of them cannot be."""

        async def alone(job: Job) -> bool:
            try:
                self._count(intake, await self._edge.write(job, max(0.1, deadline - time.perf_counter())))
            except Poisoned:
                _log.exception("statement_poisoned", account=intake.account.name)
                return False
            return True

        jobs = [Job([statement]) for statement in accepted.job.statements]
        recorded = await asyncio.gather(*map(alone, jobs))
        if not all(recorded) or accepted.job.captures:
            await self._edge.write(kept, max(0.1, deadline - time.perf_counter()))
            metrics.CAPTURED.labels(intake.account.provider).inc()

    def _count(self, intake: Intake, done: Done) -> None:
        provider = intake.account.provider
        if done.redelivered:
            metrics.REDELIVERED.labels(provider).inc(done.redelivered)
        for event in done.events:
            if isinstance(event, StatusObserved):
                metrics.OBSERVATIONS.labels(provider, event.verdict).inc()
                if not event.recognised:
                    metrics.UNRECOGNISED.labels(provider).inc()


def _webhook(intake: Intake, scope: Scope, headers: Headers, body: bytes) -> Webhook:
    query: bytes = scope["query_string"]
    url = intake.account.public_url
    if query:
        url = f"{url}{'&' if '?' in url else '?'}{query.decode('latin-1')}"
    return Webhook(method=scope["method"], url=url, query=query, headers=headers, body=body)


def _content_type(headers: Headers, intake: Intake) -> str:
    """Return the media type, lower case, without parameters. Absent is accepted: the adapter looks at the body."""
    told = headers.first("content-type")
    if headers.first("content-encoding") not in (None, b"", b"identity"):
        raise Problem("content_type_unsupported", "Compressed bodies are not accepted.")
    if told is None:
        return ""
    media_type = told.split(b";", 1)[0].strip().lower().decode("latin-1")
    if media_type not in intake.provider.content_types:
        accepted = ", ".join(sorted(intake.provider.content_types))
        raise Problem("content_type_unsupported", f"This account accepts {accepted}.")
    return media_type

"""The native API, `/v1`."""

import asyncio
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache, partial
from hashlib import sha256
from os import urandom
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.events import RegisteredDetails
from ledger.domain.message import AlreadyLinked, NotInConflict
from ledger.domain.reading import is_final
from ledger.domain.status import Outcome, Status
from ledger.http import queries, render
from ledger.http.access import Access, admitted
from ledger.http.edge import Edge
from ledger.http.inputs import decoded, read_body
from ledger.http.problems import FieldError, Problem, invalid_field, invalid_parameter
from ledger.http.shapes import (
    CorrectionRequest,
    HandoffRequest,
    HistoryPage,
    MessagePage,
    MessageShape,
    Registered,
    RegisterRequest,
)
from ledger.ingest.register import QUEUED, SENT, Correction, LocalFailure, Registration, Sender
from ledger.store import access_log, idempotency
from ledger.store.application import Archived, Ledger
from ledger.store.keys import ApiKey
from ledger.wire.contract import Account, Provider
from projections.current_status import CurrentStatus, Opened

T = TypeVar("T")

WAIT_SECONDS_MAX: Final = 30
_WAIT_STEP_SECONDS: Final = 0.1
_NOT_FOUND: Final = "No message of this id is visible to this key."


class NativeApi:
    """Handlers. Each admits the key and does its reading in one fiber."""

    def __init__(
        self,
        *,
        edge: Edge,
        ledger: Ledger,
        access: Access,
        messages: CurrentStatus,
        accounts: dict[str, Account],
        providers: Mapping[str, Provider],
        public_url: str | None,
        recurring: Callable[[str, str, str], bool] = lambda _account, _channel, _recipient: False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._edge = edge
        self._ledger = ledger
        self._access = access
        self._messages = messages
        self._accounts = accounts
        self._providers = providers
        self._public_url = public_url
        self._recurring = recurring
        self._now = now

    # Reading ----------------------------------------------------------------------------------------------------------

    async def get(self, request: Request) -> Response:
        _, (asked, opened) = await self._admitted(request, partial(self._asked, request))
        known = request.headers.get("if-none-match")
        seconds = _wait_seconds(request)
        if seconds:
            opened = await self._changed(opened, asked, known, seconds)
        tag = _tag(opened)
        if known is not None and tag in [candidate.strip().removeprefix("W/") for candidate in known.split(",")]:
            return Response(status_code=304, headers={"etag": tag})
        headers = {"etag": tag, **({"preference-applied": f"wait={seconds}"} if seconds else {})}
        recurs = await self._edge.read(self._recurs, opened)
        return _json(render.message(opened, asked, self._base(request), recurs=recurs), headers=headers)

    def _recurs(self, opened: Opened) -> bool | None:
        """Tell whether a failed message's recipient is one for whom errors recur; None for other messages."""
        message = opened.message
        if message.status is not Status.FAILED or message.person.recipient is None:
            return None
        return self._recurring(message.account, message.channel.value, message.person.recipient)

    async def newest(self, request: Request) -> Response:
        def read(key: ApiKey) -> tuple[int, list[Opened]]:
            told = queries.parameters(request, (*queries.FILTERS, "cursor", "limit"))
            count, before = queries.limit(told), queries.decode_cursor(told)
            filters = queries.filters(told, key.account, key.channel)
            return count, self._messages.newest(filters, before=before, limit=count + 1)

        _, (count, found) = await self._admitted(request, read)
        page, more = found[:count], len(found) > count
        items = [render.message(opened, opened.shown_id, self._base(request)) for opened in page]
        cursor = queries.encode_cursor(page[-1].opened_at, page[-1].message_id) if more else None
        return _json(MessagePage(items=items, next_cursor=cursor))

    async def history(self, request: Request) -> Response:
        def read(key: ApiKey) -> HistoryPage:
            told = queries.parameters(request, ("as_of", "clock", "cursor", "limit"))
            count, as_of = queries.limit(told), queries.instant(told, "as_of")
            clock = queries.choice(told, "clock", render.CLOCKS)
            start = _position(told)
            asked = queries.message_id(request.path_params["message_id"])
            opened = self._visible(key, asked)
            access_log.record(self._ledger, key.id, "history", message_id=asked, account=key.account)
            try:
                events = render.as_of(self._ledger.history(opened.stream_id), as_of, clock)
            except Archived as archived:
                raise Problem("archived", "Whoever runs the service can restore it.") from archived
            steps = list(render.replay(events))
            page = [item for item, _ in steps[start : start + count]]
            return HistoryPage(
                message_id=asked,
                as_of=as_of,
                clock=clock,
                status=steps[-1][1].status if steps else Status.UNKNOWN,
                items=page,
                next_cursor=str(start + count) if start + count < len(steps) else None,
            )

        _, shown = await self._admitted(request, read)
        return _json(shown)

    # Writing ----------------------------------------------------------------------------------------------------------

    async def register(self, request: Request) -> Response:
        body = await read_body(request)

        def prepare(key: ApiKey) -> tuple[Sender, Registration, bytes, UUID]:
            queries.parameters(request, ())
            told, idempotency_key = decoded(body, RegisterRequest), _idempotency_key(request)
            if told.channel is not key.channel:
                raise invalid_field("channel", f"this key belongs to channel {key.channel}")
            sender, registration = self._sender(key), _registration(told)
            scope = (key.account, key.channel.value)
            if idempotency_key is not None:
                identity = self._ledger.names.digest("idempotency", *scope, idempotency_key)
            elif told.provider_message_id is not None:
                identity = self._ledger.names.digest("registration", *scope, sha256(body).hexdigest())
            else:
                identity = urandom(16)
            stream_id = sender.stream_of(registration, urandom(16))
            self._require_channel(key, stream_id)
            if idempotency_key is not None:
                fingerprint = sha256(msgspec.json.encode(told)).digest()
                stream_id = idempotency.claim(self._ledger, key.account, identity, fingerprint, stream_id)
            return sender, registration, identity, stream_id

        try:
            _, (sender, registration, identity, stream_id) = await self._admitted(request, prepare)
        except idempotency.KeyReused as reused:
            raise Problem("idempotency_key_reused", "Use a new key for a new message.") from reused
        done = await self._edge.write(sender.register(stream_id, registration, identity, self._now()))
        opened = await self._edge.read(self._messages.of_stream, done.streams[0])
        assert opened is not None  # noqa: S101  # it was just written
        url = f"{self._base(request)}/v1/messages/{opened.shown_id}"
        answer = Registered(message_id=opened.shown_id, status=opened.message.status, status_url=url)
        replayed = {} if done.events else {"idempotent-replayed": "true"}
        return _json(answer, 201, headers={"location": url, **replayed})

    async def hand_off(self, request: Request) -> Response:
        body = await read_body(request)

        def prepare(key: ApiKey) -> tuple[int, Opened, HandoffRequest]:
            asked, opened = self._asked(request, key)
            told = decoded(body, HandoffRequest)
            if (told.provider_message_id is None) == (told.failure is None):
                both = "give either provider_message_id or failure"
                errors = (FieldError("provider_message_id", both), FieldError("failure", both))
                raise Problem("invalid_field", both, errors=errors)
            return asked, opened, told

        key, (asked, opened, told) = await self._admitted(request, prepare)
        sender, now = self._sender(key), self._now()
        if told.failure is not None:
            failure = LocalFailure(told.failure.text, told.failure.code)
            job = sender.fail(opened.stream_id, key.channel, failure, now)
        else:
            registration = Registration(
                channel=key.channel,
                details=RegisteredDetails(provider_message_id=told.provider_message_id),
                sent_at=told.sent_at,
                accepted_as=_accepted_as(told.provider_status),
            )
            known_as = opened.message.person.provider_message_id
            if known_as is not None and known_as != told.provider_message_id:
                raise Problem("already_handed_off", "A retry is a message of its own: register it.")
            recipient = opened.message.person.recipient
            job, leading = sender.hand_off(opened.stream_id, opened.message_id, registration, now, recipient)
            await self._edge.read(self._require_channel, key, leading)
            if leading == opened.stream_id:
                job = sender.acknowledge(leading, registration, now)
        return await self._written(request, job, asked)

    async def correct(self, request: Request) -> Response:
        body = await read_body(request)

        def prepare(key: ApiKey) -> tuple[int, Opened, CorrectionRequest]:
            asked, opened = self._asked(request, key)
            told = decoded(body, CorrectionRequest)
            access_log.record(self._ledger, key.id, "correct", message_id=asked, account=key.account)
            return asked, opened, told

        key, (asked, opened, told) = await self._admitted(request, prepare)
        correction = Correction(to=Outcome(told.to), by=told.by, why=told.why, relied_on=tuple(told.relied_on))
        job = self._sender(key).correct(opened.stream_id, key.channel, correction, self._now())
        return await self._written(request, job, asked)

    # Shared -----------------------------------------------------------------------------------------------------------

    async def _admitted(self, request: Request, then: Callable[[ApiKey], T]) -> tuple[ApiKey, T]:
        return await admitted(self._edge, self._access, request, then)

    def _asked(self, request: Request, key: ApiKey) -> tuple[int, Opened]:
        """Return the id that the path names, and its message."""
        queries.parameters(request, ())
        asked = queries.message_id(request.path_params["message_id"])
        return asked, self._visible(key, asked)

    def _visible(self, key: ApiKey, message_id: int) -> Opened:
        """Return a message of the key's account and channel. Anything else does not exist for it."""
        opened = self._messages.get(message_id)
        if opened is None or opened.message.account != key.account or opened.message.channel is not key.channel:
            raise Problem("not_found", _NOT_FOUND)
        return opened

    def _require_channel(self, key: ApiKey, stream_id: UUID) -> None:
        """Refuse to join a message that callbacks have opened on another channel: its own key must see it."""
        opened = self._messages.of_stream(stream_id)
        if opened is not None and opened.message.channel is not key.channel:
            raise Problem("channel_mismatch", "Callbacks for this provider_message_id came in on another channel.")

    def _base(self, request: Request) -> str:
        """Return where callers reach this API: as configured, else as this request did."""
        return base_of(request, self._public_url)

    def _sender(self, key: ApiKey) -> Sender:
        account = self._accounts.get(key.account)
        if account is None:
            raise Problem("account_unknown", "The key's account is no longer configured.")
        reference_of = self._providers[account.provider].reference_of
        told = () if reference_of is None else (partial(reference_of, account),)
        return Sender(account.name, account.provider, self._ledger.names, *told)

    async def _written(self, request: Request, job: Any, asked: int) -> Response:
        try:
            await self._edge.write(job)
        except AlreadyLinked as refused:
            raise Problem("already_handed_off", "A retry is a message of its own: register it.") from refused
        except NotInConflict as refused:
            raise Problem("not_in_conflict", "There is nothing to decide about this message.") from refused
        opened = await self._edge.read(self._messages.get, asked)
        assert opened is not None  # noqa: S101  # it was just written
        return _json(render.message(opened, asked, self._base(request)), headers={"etag": _tag(opened)})

    async def _changed(self, opened: Opened, asked: int, known: str | None, seconds: int) -> Opened:
        """Wait until the message differs from what the caller knows, or is final if it says nothing; then answer.

        Nobody waits once the server drains: it ends sooner than some would.
        """
        until = asyncio.get_running_loop().time() + seconds
        while not self._edge.is_draining and asyncio.get_running_loop().time() < until:
            if is_final(opened.message) if known is None else _tag(opened) not in known:
                break
            await asyncio.sleep(_WAIT_STEP_SECONDS)
            newer = await self._edge.read(self._messages.get, asked)
            opened = newer if newer is not None else opened
        return opened


def base_of(request: Request, public_url: str | None) -> str:
    """Return where callers reach this API: as configured, else as this request did."""
    scope = request.scope
    return public_url or _origin(scope["scheme"], request.headers.get("host"), scope.get("server"))


@lru_cache(256)
def _origin(scheme: str, host: str | None, server: tuple[str, int | None] | None) -> str:
    headers = [(b"host", host.encode("latin-1"))] if host else []
    told = {"type": "http", "scheme": scheme, "server": server, "path": "/", "query_string": b"", "headers": headers}
    url = URL(scope=told)
    return f"{url.scheme}://{url.netloc}"


def _registration(told: RegisterRequest) -> Registration:
    conversation = told.conversation
    return Registration(
        channel=told.channel,
        details=RegisteredDetails(
            provider_message_id=told.provider_message_id,
            recipient=queries.address(told.recipient) if told.recipient is not None else None,
            client_reference=told.client_reference,
            conversation_id=conversation.conversation_id if conversation else None,
            conversation_part_id=conversation.part_id if conversation else None,
            metadata=told.metadata,
        ),
        queued_at=told.queued_at,
        sent_at=told.sent_at,
        accepted_as=_accepted_as(told.provider_status),
        failure=LocalFailure(told.failure.text, told.failure.code) if told.failure else None,
    )


def _accepted_as(provider_status: str | None) -> str | None:
    return None if provider_status is None else SENT if provider_status == SENT else QUEUED


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
        raise Problem(
            "invalid_field",
            "Idempotency-Key: must be 1 to 255 visible ASCII characters",
            errors=(FieldError("Idempotency-Key", "must be 1 to 255 visible ASCII characters"),),
        )
    return key


def _wait_seconds(request: Request) -> int:
    match = re.search(r"(?:^|[,;\s])wait=([0-9]{1,4})\b", request.headers.get("prefer", ""))
    return min(int(match[1]), WAIT_SECONDS_MAX) if match else 0


def _position(told: dict[str, str]) -> int:
    text = told.get("cursor", "0")
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise invalid_parameter("cursor", "must be a next_cursor of an earlier answer")
    return int(text)


def _tag(opened: Opened) -> str:
    return f'"{opened.stream_id.hex[:8]}-{opened.version}"'


def _json(answer: MessageShape | MessagePage | HistoryPage | Registered, status: int = 200, **kwargs: Any) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json", **kwargs)

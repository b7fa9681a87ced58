"""The compatibility API, `/api/v1`: field for field what integrations written against the original product expect.

Sources: seeds 001 (statuses, 404), 002 (WhatsApp), 004 (SMS). The vocabulary follows the key's style; its errors are
`{request_id, error_code, error}` and their HTTP status follows the style too where the documents differ.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.reading import last_updated, times
from ledger.domain.status import SENTENCES, Channel, Style, word
from ledger.http import queries
from ledger.http.access import REFUSALS, Access, KeyDeprecated, KeyMissing, secret_of
from ledger.http.edge import Edge
from ledger.http.problems import Problem
from ledger.store.keys import ApiKey
from ledger.store.rate_limits import Limited
from projections.current_status import CurrentStatus, Filters, Opened, reason

_ID_MISSING: Final = "You must supply message_id in your request payload."
_UNKNOWN: Final = "The message does not exist, or this API key did not send it."
#: Documented codes of a rotated or revoked key.
_DEPRECATED: Final = {Channel.WHATSAPP: 6, Channel.VIBER: 6, Channel.SMS: 5}


class CompatStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The union of the fields that the documents name."""

    request_id: str
    message_id: int
    status: str
    status_message: str
    phone_number: str | None
    channel_message_id: str
    intercom_conversation_id: str
    intercom_conversation_part_id: str
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    failure_reason: str | None
    last_updated: str | None


class CompatMessageStatus(msgspec.Struct, frozen=True, kw_only=True):
    message_status: str
    status_message: str
    failure_reason: str | None
    last_updated: str | None


class CompatListed(msgspec.Struct, frozen=True, kw_only=True):
    message_id: int
    phone_number: str | None
    channel_message_id: str
    intercom_conversation_id: str
    intercom_conversation_part_id: str
    sent_at: str | None
    delivered_at: str | None
    read_at: str | None
    message_status: CompatMessageStatus


class CompatPage(msgspec.Struct, frozen=True, kw_only=True):
    request_id: str
    messages: list[CompatListed]
    next_cursor: str | None


class CompatError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    request_id: str
    error_code: int
    error: str
    retry_at: str | None = None


class _Refused(Exception):
    def __init__(self, status: int, code: int, text: str, *, limited: Limited | None = None) -> None:
        self.status = status
        self.code = code
        self.text = text
        self.limited = limited


class CompatApi:
    """Handlers of `/api/v1/{channel}/messages…`."""

    def __init__(self, *, edge: Edge, access: Access, messages: CurrentStatus) -> None:
        self._edge = edge
        self._access = access
        self._messages = messages

    async def get(self, request: Request) -> Response:
        return await self._answer(request, self._status)

    async def newest(self, request: Request) -> Response:
        return await self._answer(request, self._page)

    async def id_missing(self, request: Request) -> Response:
        def refuse(request: Request, key: ApiKey, request_id: str) -> CompatStatus:
            raise _Refused(400, 1, _ID_MISSING)

        return await self._answer(request, refuse)

    async def _answer(
        self, request: Request, read: Callable[[Request, ApiKey, str], CompatStatus | CompatPage]
    ) -> Response:
        channel, secret = Channel(request.path_params["channel"]), secret_of(request)
        request_id: str = request.state.request_id  # that of the answer's header

        def admit_and_read() -> CompatStatus | CompatPage:
            try:
                return read(request, self._access.admit(secret), request_id)
            except REFUSALS as refused:
                raise _refusal(refused, channel) from None

        try:
            answer = await self._edge.read(admit_and_read)
        except _Refused as refused:
            return _error(refused, request_id)
        except Problem as problem:
            if problem.code == "invalid_parameter":
                return _error(_Refused(400, 1, problem.detail), request_id)
            raise
        return Response(msgspec.json.encode(answer), media_type="application/json")

    def _status(self, request: Request, key: ApiKey, request_id: str) -> CompatStatus:
        style = _style(request, key)
        channel = Channel(request.path_params["channel"])
        unknown = _Refused(404 if style is Style.UNIFIED else 400, 1, _UNKNOWN)
        text = request.path_params["message_id"]
        if not text.isascii() or not text.isdigit():
            raise _Refused(400, 1, _ID_MISSING)
        opened = None
        if len(text) <= 16 and channel is key.channel:
            opened = self._messages.get(int(text))
        if opened is None or opened.message.account != key.account or opened.message.channel is not channel:
            raise unknown
        told, at = opened.message, _instants(opened)
        return CompatStatus(
            request_id=request_id,
            message_id=int(text),
            status=word(told.status, told.kind, told.channel, style),
            status_message=SENTENCES[told.status],
            phone_number=_phone_number(opened),
            channel_message_id=told.person.provider_message_id or "",
            intercom_conversation_id=told.person.conversation_id or "",
            intercom_conversation_part_id=told.person.conversation_part_id or "",
            sent_at=at["sent_at"],
            delivered_at=at["delivered_at"],
            read_at=at["read_at"],
            failure_reason=_failure_reason(opened),
            last_updated=_seconds(last_updated(told)),
        )

    def _page(self, request: Request, key: ApiKey, request_id: str) -> CompatPage:
        style = _style(request, key)
        told = queries.parameters(request, ("cursor", "limit", "status_style"))
        count, before = queries.limit(told), queries.decode_cursor(told)
        found: list[Opened] = []
        if Channel(request.path_params["channel"]) is key.channel:
            filters = Filters(account=key.account, channel=key.channel.value)
            found = self._messages.newest(filters, before=before, limit=count + 1)
        page = found[:count]
        cursor = queries.encode_cursor(page[-1].opened_at, page[-1].message_id) if len(found) > count else None
        return CompatPage(
            request_id=request_id, messages=[_listed(opened, style) for opened in page], next_cursor=cursor
        )


def _listed(opened: Opened, style: Style) -> CompatListed:
    told, at = opened.message, _instants(opened)
    return CompatListed(
        message_id=opened.shown_id,
        phone_number=_phone_number(opened),
        channel_message_id=told.person.provider_message_id or "",
        intercom_conversation_id=told.person.conversation_id or "",
        intercom_conversation_part_id=told.person.conversation_part_id or "",
        sent_at=at["sent_at"],
        delivered_at=at["delivered_at"],
        read_at=at["read_at"],
        message_status=CompatMessageStatus(
            message_status=word(told.status, told.kind, told.channel, style),
            status_message=SENTENCES[told.status],
            failure_reason=_failure_reason(opened),
            last_updated=_seconds(last_updated(told)),
        ),
    )


def _refusal(refused: Exception, channel: Channel) -> _Refused:
    match refused:
        case Limited():
            return _Refused(429, 3, "Too many requests. Pause until the time in retry_at.", limited=refused)
        case KeyDeprecated():
            return _Refused(400, _DEPRECATED[channel], "Deprecated API key.")
        case KeyMissing():
            return _Refused(400, 2, "You must supply an API key in the X-Octopods-Auth header.")
        case _:
            return _Refused(400, 2, "The API key is not known.")


def _error(refused: _Refused, request_id: str) -> Response:
    retry_at, headers = None, {}
    if refused.limited is not None:
        retry_at = _seconds(refused.limited.retry_at)
        headers = {"retry-after": str(refused.limited.retry_after_seconds)}
    body = CompatError(request_id=request_id, error_code=refused.code, error=refused.text, retry_at=retry_at)
    return Response(msgspec.json.encode(body), refused.status, media_type="application/json", headers=headers)


def _style(request: Request, key: ApiKey) -> Style:
    told = request.query_params.get("status_style")
    if told is None:
        return key.status_style
    try:
        return Style(told)
    except ValueError:
        raise _Refused(400, 1, 'status_style must be "unified" or "channel".') from None


def _instants(opened: Opened) -> dict[str, str | None]:
    return {field: _seconds(instant.at) if instant else None for field, instant in times(opened.message).items()}


def _seconds(at: datetime | None) -> str | None:
    """Write an instant as the documents do: UTC, whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at is not None else None


def _phone_number(opened: Opened) -> str | None:
    recipient = opened.message.person.recipient
    return recipient if recipient and recipient.startswith("+") else None


def _failure_reason(opened: Opened) -> str | None:
    why = reason(opened.message)
    return why.text if why is not None else None

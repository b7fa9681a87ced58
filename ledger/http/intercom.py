"""The edge of the Intercom Inbox App: who asks, which workspace, and a canvas in any case.

A request is signed over its raw bytes and carries neither time nor nonce: whoever has captured one can send it for
ever. So nothing here changes anything, and a workspace sees its own accounts only. Whatever goes wrong on our side is
shown as a canvas, because anything else is shown to the teammate as a fault of the app.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from ledger.http import queries
from ledger.http.edge import Edge
from ledger.http.inputs import whole_body
from ledger.http.problems import Problem
from ledger.store.application import Ledger
from ledger.surfaces import intercom
from ledger.surfaces.intercom import Asked, CanvasAnswer, IntercomSettings, ResultsAnswer
from ledger.wire import signature
from projections.conversations import SentMessages
from projections.current_status import CurrentStatus

#: Content and stored data of the current canvas have 64 KB each; the rest is the conversation and people.
BODY_BYTES_MAX: Final = 512 * 1024
SIGNATURE: Final = "x-body-signature"

_log = structlog.get_logger("ledger.intercom")
_encode: Final = msgspec.json.Encoder().encode

Answer = CanvasAnswer | ResultsAnswer


class Refused(msgspec.Struct, frozen=True):
    """The signature does not fit the body."""

    error: str


class IntercomApp:
    """Handlers of `/surfaces/intercom/…`."""

    def __init__(
        self,
        *,
        edge: Edge,
        ledger: Ledger,
        messages: CurrentStatus,
        settings: IntercomSettings | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._edge = edge
        self._ledger = ledger
        self._messages = messages
        self._sent = SentMessages(ledger, messages)
        self._settings = settings
        self._now = now

    async def initialize(self, request: Request) -> Response:
        return await self._answer(request, self._list)

    async def submit(self, request: Request) -> Response:
        return await self._answer(request, self._clicked)

    async def configure(self, request: Request) -> Response:
        return await self._answer(request, _configured)

    async def _answer(self, request: Request, show: Callable[[Asked, tuple[str, ...]], Answer]) -> Response:
        if self._settings is None:
            raise Problem("not_found", "The Intercom app is not configured here.")
        body = await whole_body(request, BODY_BYTES_MAX)
        if not self._is_authentic(body, request.headers.get(SIGNATURE, "")):
            return Response(_encode(Refused("invalid signature")), 401, media_type="application/json")
        return Response(_encode(await self._shown(body, show)), media_type="application/json")

    def _is_authentic(self, body: bytes, given: str) -> bool:
        assert self._settings is not None  # noqa: S101  # the caller has looked
        expected = (signature.hmac_hex(secret, body) for secret in signature.usable(self._settings.secrets))
        return signature.matches_any(expected, [given.encode("latin-1", "replace")] if given else [])

    async def _shown(self, body: bytes, show: Callable[[Asked, tuple[str, ...]], Answer]) -> Answer:
        assert self._settings is not None  # noqa: S101
        asked = intercom.read(body)
        if asked is None:
            return intercom.unreadable()
        accounts = self._settings.workspaces.get(asked.workspace_id)
        if not accounts:
            return intercom.not_connected()
        try:
            return await self._edge.read(partial(show, asked, accounts))
        except Problem:
            return intercom.unavailable()
        except Exception:
            _log.exception("canvas_failed")
            return intercom.unavailable()

    # In a fiber -------------------------------------------------------------------------------------------------------

    def _clicked(self, asked: Asked, accounts: tuple[str, ...]) -> Answer:
        """Show what a click leads to. What was shown before comes with it (`StoredData`)."""
        opens = asked.opens
        if opens is not None:
            return self._detail(asked, accounts, opens)
        match asked.component_id, asked.view:
            case intercom.REFRESH, "message" if asked.message is not None:
                return self._detail(asked, accounts, asked.message)
            case intercom.OLDER, _:
                return self._list(msgspec.structs.replace(asked, before=asked.older), accounts)
            case ((intercom.REFRESH | intercom.BACK), _):
                return self._list(asked, accounts)
            case _:
                return self._list(msgspec.structs.replace(asked, before=None), accounts)

    def _list(self, asked: Asked, accounts: tuple[str, ...]) -> Answer:
        before = _place(asked.before)
        found = self._sent.newest(
            accounts,
            conversation_id=asked.conversation_id,
            recipient=queries.address(asked.phone) if asked.phone else None,
            before=before,
            limit=intercom.PAGE + 1,
        )
        page = found[: intercom.PAGE]
        older = queries.encode_cursor(page[-1].opened_at, page[-1].message_id) if len(found) > len(page) else None
        return intercom.sent_messages(page, self._now(), before=asked.before if before else None, older=older)

    def _detail(self, asked: Asked, accounts: tuple[str, ...], message_id: int) -> Answer:
        opened = self._messages.get(message_id)
        if opened is None or opened.message.account not in accounts:
            return intercom.gone(self._now())
        events = self._ledger.history(opened.stream_id)
        before = asked.before if _place(asked.before) else None
        return intercom.detail(opened, events, self._now(), before=before)


def _configured(asked: Asked, accounts: tuple[str, ...]) -> Answer:
    return ResultsAnswer({}) if asked.component_id == intercom.DONE else intercom.configuration(accounts)


def _place(cursor: str | None) -> tuple[datetime, int] | None:
    """Return a place in the list; None, its beginning, for what is none."""
    try:
        return queries.decode_cursor({"cursor": cursor}) if cursor else None
    except Problem:
        return None

"""Every route once: what Starlette serves and what `/openapi.json` describes."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.status import Channel
from ledger.http import queries
from ledger.http.api import NativeApi
from ledger.http.compat import CompatApi, CompatError, CompatPage, CompatStatus
from ledger.http.health import Health, Readiness
from ledger.http.shapes import (
    CorrectionRequest,
    HandoffRequest,
    HistoryPage,
    MessagePage,
    MessageShape,
    Registered,
    RegisterRequest,
)

Handler = Callable[[Request], Awaitable[Response]]


class Parameter(msgspec.Struct, frozen=True):
    name: str
    place: str  #: query, header or path
    description: str
    schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path. `answers`: HTTP status -> (description, type of the body or a media type)."""

    method: str
    path: str
    handler: Handler
    summary: str
    group: str
    answers: dict[int, tuple[str, Any]]
    parameters: tuple[Parameter, ...] = ()
    request: type[msgspec.Struct] | None = None
    needs_key: bool = True
    error: Any = None  #: type of other error bodies; None: problem details


_LIMIT = Parameter("limit", "query", "Items a page.", {"type": "integer", "minimum": 1, "maximum": queries.LIMIT_MAX})
_CURSOR = Parameter("cursor", "query", "next_cursor of the previous page.")
_ID = Parameter("message_id", "path", "The id given at registration, or shown in a listing.")
_STYLE = Parameter("status_style", "query", "Overrides the key's vocabulary.", {"enum": ["unified", "channel"]})
_FILTERS = tuple(Parameter(name, "query", "") for name in queries.FILTERS)


def operations(api: NativeApi, compat: CompatApi, health: Health) -> list[Operation]:
    return [
        Operation(
            method="POST",
            path="/v1/messages",
            handler=api.register,
            summary="Register a message: what the sender knows, before or after hand-off.",
            group="Messages",
            request=RegisterRequest,
            parameters=(Parameter("Idempotency-Key", "header", "Makes a retry of this request safe for 24 hours."),),
            answers={201: ("Registered, now or before.", Registered)},
        ),
        Operation(
            method="GET",
            path="/v1/messages",
            handler=api.newest,
            summary="List messages, newest first.",
            group="Messages",
            parameters=(*_FILTERS, _LIMIT, _CURSOR),
            answers={200: ("A page.", MessagePage)},
        ),
        Operation(
            method="GET",
            path="/v1/messages/{message_id}",
            handler=api.get,
            summary="Read where a message stands.",
            group="Messages",
            parameters=(
                _ID,
                Parameter("If-None-Match", "header", "ETag of an earlier answer."),
                Parameter("Prefer", "header", "wait=N: answer when something changes, after N seconds at the latest."),
            ),
            answers={200: ("The message.", MessageShape), 304: ("Nothing has changed.", None)},
        ),
        Operation(
            method="GET",
            path="/v1/messages/{message_id}/history",
            handler=api.history,
            summary="Replay everything recorded about a message.",
            group="Messages",
            parameters=(_ID, Parameter("as_of", "query", "What was on record at this time."), _LIMIT, _CURSOR),
            answers={200: ("Events in the order of recording.", HistoryPage)},
        ),
        Operation(
            method="POST",
            path="/v1/messages/{message_id}/handoff",
            handler=api.hand_off,
            summary="Tell the provider's message id, or why there is none.",
            group="Messages",
            request=HandoffRequest,
            parameters=(_ID,),
            answers={200: ("The message.", MessageShape)},
        ),
        Operation(
            method="POST",
            path="/v1/messages/{message_id}/corrections",
            handler=api.correct,
            summary="Decide an open conflict, with a name and a reason.",
            group="Messages",
            request=CorrectionRequest,
            parameters=(_ID,),
            answers={200: ("The message.", MessageShape)},
        ),
        *_compat(compat),
        Operation(
            method="GET",
            path="/livez",
            handler=health.live,
            summary="Is the process alive?",
            group="Operations",
            needs_key=False,
            answers={200: ("Yes.", "text/plain")},
        ),
        Operation(
            method="GET",
            path="/readyz",
            handler=health.ready,
            summary="May it take traffic?",
            group="Operations",
            needs_key=False,
            answers={200: ("Yes.", Readiness), 503: ("Not now.", Readiness)},
        ),
        Operation(
            method="GET",
            path="/metrics",
            handler=health.metrics,
            summary="Metrics in Prometheus text format.",
            group="Operations",
            needs_key=False,
            answers={200: ("Metrics.", "text/plain")},
        ),
    ]


def _compat(compat: CompatApi) -> list[Operation]:
    channel = Parameter("channel", "path", "", {"enum": [word.value for word in Channel]})
    return [
        Operation(
            method="GET",
            path="/api/v1/{channel}/messages/{message_id}",
            handler=compat.get,
            summary="Read a status as the original product's clients expect it.",
            group="Compatibility",
            parameters=(channel, _ID, _STYLE),
            answers={200: ("The status.", CompatStatus)},
            error=CompatError,
        ),
        Operation(
            method="GET",
            path="/api/v1/{channel}/messages",
            handler=compat.newest,
            summary="List messages as the original product's clients expect them.",
            group="Compatibility",
            parameters=(channel, _STYLE, _LIMIT, _CURSOR),
            answers={200: ("A page.", CompatPage)},
            error=CompatError,
        ),
        Operation(
            method="GET",
            path="/api/v1/{channel}/messages/",
            handler=compat.id_missing,
            summary="Says that the message id is missing.",
            group="Compatibility",
            parameters=(channel,),
            answers={},
            error=CompatError,
        ),
    ]

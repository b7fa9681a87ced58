"""Every route once: what Starlette serves and what `/openapi.json` describes."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.http.api import NativeApi
from ledger.http.bodies import (
    AttentionList,
    DeliveryReport,
    FailuresReport,
    LatencyReport,
    ProvidersReport,
    ResolutionRequest,
    Resolved,
    StuckReport,
)
from ledger.http.compat import CompatApi, CompatError, CompatPage, CompatStatus
from ledger.http.evidence import CheckpointPage, EvidenceApi
from ledger.http.health import Health, Readiness
from ledger.http.intercom import IntercomApp, Refused
from ledger.http.parameters import (
    AS_OF,
    CHANNEL,
    CLOCK,
    COUNTRY,
    CURSOR,
    FILTERS,
    GROUP_BY,
    IDEMPOTENCY_KEY,
    LIMIT,
    MESSAGE_ID,
    PARTITION,
    PLACE,
    PROVIDER,
    SINCE,
    STREAM_FILTERS,
    STYLE,
    TIME_ZONE,
    UNTIL,
    Parameter,
)
from ledger.http.problems import ProblemBody
from ledger.http.reports import ReportsApi
from ledger.http.shapes import (
    CorrectionRequest,
    HandoffRequest,
    HistoryPage,
    MessagePage,
    MessageShape,
    Registered,
    RegisterRequest,
)
from ledger.http.streams import LAST_ID, Streams
from ledger.http.tables import FORMS
from ledger.surfaces.intercom import CanvasAnswer

Handler = Callable[[Request], Awaitable[Response]]


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
    forms: tuple[str, ...] = ()  #: media types that the answer is to be had in as well
    names: tuple[str, str] | None = None  #: a parameter of other paths, and where the answer has it


def operations(
    api: NativeApi,
    compat: CompatApi,
    health: Health,
    reports: ReportsApi,
    evidence: EvidenceApi,
    *,
    streams: Streams,
    intercom: IntercomApp,
) -> list[Operation]:
    return [
        Operation(
            method="POST",
            path="/v1/messages",
            handler=api.register,
            summary="Register a message: what the sender knows, before or after hand-off.",
            group="Messages",
            request=RegisterRequest,
            parameters=(IDEMPOTENCY_KEY,),
            answers={201: ("Registered, now or before.", Registered)},
            names=("message_id", "/message_id"),
        ),
        Operation(
            method="GET",
            path="/v1/messages",
            handler=api.newest,
            summary="List messages, newest first.",
            group="Messages",
            parameters=(*FILTERS, LIMIT, CURSOR),
            answers={200: ("A page.", MessagePage)},
        ),
        Operation(
            method="GET",
            path="/v1/messages/{message_id}",
            handler=api.get,
            summary="Read where a message stands.",
            group="Messages",
            parameters=(
                MESSAGE_ID,
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
            parameters=(
                MESSAGE_ID,
                AS_OF,
                CLOCK,
                LIMIT,
                PLACE,
            ),
            answers={200: ("Events in the order of recording.", HistoryPage)},
        ),
        Operation(
            method="POST",
            path="/v1/messages/{message_id}/handoff",
            handler=api.hand_off,
            summary="Tell the provider's message id, or why there is none.",
            group="Messages",
            request=HandoffRequest,
            parameters=(MESSAGE_ID,),
            answers={200: ("The message.", MessageShape)},
        ),
        Operation(
            method="POST",
            path="/v1/messages/{message_id}/corrections",
            handler=api.correct,
            summary="Decide an open conflict, with a name and a reason.",
            group="Messages",
            request=CorrectionRequest,
            parameters=(MESSAGE_ID,),
            answers={200: ("The message.", MessageShape)},
        ),
        *_evidence(evidence),
        *_reports(reports),
        *_streams(streams),
        *_intercom(intercom),
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


def _evidence(evidence: EvidenceApi) -> list[Operation]:
    return [
        Operation(
            method="GET",
            path="/v1/checkpoints",
            handler=evidence.checkpoints,
            summary="Read what has been signed of the log.",
            group="Evidence",
            needs_key=False,
            answers={200: ("The newest checkpoint of every partition.", CheckpointPage)},
        ),
        Operation(
            method="GET",
            path="/v1/checkpoints/{partition}",
            handler=evidence.checkpoint,
            summary="Read the newest checkpoint of a partition as a signed note.",
            group="Evidence",
            needs_key=False,
            parameters=(PARTITION,),
            answers={200: ("The note.", "text/plain"), 404: ("There is none.", ProblemBody)},
        ),
    ]


def _streams(streams: Streams) -> list[Operation]:
    last_id = Parameter(LAST_ID, "header", "Id of the last event received: go on after it. 0: from the beginning.")
    last_id_parameter = Parameter("last_event_id", "query", "The same, where no header can be set.")
    return [
        Operation(
            method="GET",
            path="/v1/messages/{message_id}/events",
            handler=streams.message,
            summary="Follow a message: server-sent events, one for everything recorded about it.",
            group="Streams",
            parameters=(MESSAGE_ID, last_id, last_id_parameter),
            answers={200: ("A stream of StreamedMessage that does not end.", "text/event-stream")},
        ),
        Operation(
            method="GET",
            path="/v1/events",
            handler=streams.tail,
            summary="Follow every message: server-sent events, one for everything recorded.",
            group="Streams",
            parameters=(*STREAM_FILTERS, last_id, last_id_parameter),
            answers={200: ("A stream of ChangeShape that does not end.", "text/event-stream")},
        ),
    ]


def _intercom(app: IntercomApp) -> list[Operation]:
    signed = Parameter("X-Body-Signature", "header", "HMAC-SHA256 of the body under the app's client secret, in hex.")
    return [
        Operation(
            method="POST",
            path=f"/surfaces/intercom/{name}",
            handler=handler,
            summary=summary,
            group="Surfaces",
            needs_key=False,
            parameters=(signed,),
            answers={
                200: ("A canvas, whatever happens.", type_),
                401: ("The signature does not fit.", Refused),
                404: ("The Intercom app is not configured.", ProblemBody),
            },
        )
        for name, handler, type_, summary in (
            ("initialize", app.initialize, CanvasAnswer, "Show the messages of a conversation in Intercom's Inbox."),
            ("submit", app.submit, CanvasAnswer, "Show what a teammate has clicked on."),
            ("configure", app.configure, CanvasAnswer, "Show what the app will show; end the configuration."),
        )
    ]


def _reports(reports: ReportsApi) -> list[Operation]:
    ranged = (SINCE, UNTIL, PROVIDER)
    counted = (*ranged, COUNTRY, GROUP_BY, TIME_ZONE)

    def report(name: str, handler: Handler, summary: str, parameters: tuple[Parameter, ...], shape: Any) -> Operation:
        return Operation(
            method="GET",
            path=f"/v1/reports/{name}",
            handler=handler,
            summary=summary,
            group="Reports",
            parameters=parameters,
            answers={200: ("The report, and the positions it was made at.", shape)},
            forms=FORMS[1:],
        )

    return [
        report("delivery", reports.delivery, "How far messages come.", counted, DeliveryReport),
        report("failures", reports.failures, "Why messages fail, and what to do about it.", counted, FailuresReport),
        report("latency", reports.latency, "How long delivery, reading and callbacks take.", counted, LatencyReport),
        report(
            "stuck",
            reports.stuck,
            "What has been silent for longer than is to be expected.",
            (PROVIDER, COUNTRY, LIMIT, CURSOR),
            StuckReport,
        ),
        report("providers", reports.providers, "What providers send, and what is refused.", ranged, ProvidersReport),
        Operation(
            method="GET",
            path="/v1/attention",
            handler=reports.attention,
            summary="List what a person should look at.",
            group="Reports",
            answers={200: ("Everything that waits, newest first.", AttentionList)},
            forms=FORMS[1:],
        ),
        Operation(
            method="POST",
            path="/v1/attention/resolutions",
            handler=reports.resolve,
            summary="Note that an item has been dealt with.",
            group="Reports",
            request=ResolutionRequest,
            answers={200: ("Noted.", Resolved)},
        ),
    ]


def _compat(compat: CompatApi) -> list[Operation]:
    return [
        Operation(
            method="GET",
            path="/api/v1/{channel}/messages/{message_id}",
            handler=compat.get,
            summary="Read a status as the original product's clients expect it.",
            group="Compatibility",
            parameters=(CHANNEL, MESSAGE_ID, STYLE),
            answers={200: ("The status.", CompatStatus)},
            error=CompatError,
        ),
        Operation(
            method="GET",
            path="/api/v1/{channel}/messages",
            handler=compat.newest,
            summary="List messages as the original product's clients expect them.",
            group="Compatibility",
            parameters=(CHANNEL, STYLE, LIMIT, CURSOR),
            answers={200: ("A page.", CompatPage)},
            error=CompatError,
        ),
        Operation(
            method="GET",
            path="/api/v1/{channel}/messages/",
            handler=compat.id_missing,
            summary="Says that the message id is missing.",
            group="Compatibility",
            parameters=(CHANNEL,),
            answers={},
            error=CompatError,
        ),
    ]

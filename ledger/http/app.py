"""The ASGI application: callbacks on the lean path, everything else routed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ledger.domain.status import Channel
from ledger.http import endpoint_routes, metrics, openapi
from ledger.http.api import NativeApi
from ledger.http.compat import CompatApi
from ledger.http.edge import Edge
from ledger.http.endpoints import Endpoints
from ledger.http.evidence import EvidenceApi
from ledger.http.health import Health
from ledger.http.intercom import IntercomApp
from ledger.http.pages import serving
from ledger.http.problems import Problem, response
from ledger.http.reports import ReportsApi
from ledger.http.routes import Operation, operations
from ledger.http.streams import Streams
from ledger.http.traffic import Counter
from ledger.http.webhooks import PATH, Webhooks

_log = structlog.get_logger("ledger.http")
_SECURITY = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'",
}


class Application:
    """Dispatches. `drain` is called when the server has been told to stop."""

    def __init__(self, webhooks: Webhooks, routed: ASGIApp, edge: Edge) -> None:
        self.webhooks = webhooks  #: reached past ASGI as well (`ledger.http.protocol`)
        self._routed = routed
        self._edge = edge

    def drain(self) -> None:
        self._edge.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(PATH):
            await self.webhooks(scope, receive, send)
        else:
            await self._routed(scope, receive, send)


class _ChannelConvertor(Convertor[str]):
    regex = "|".join(channel.value for channel in Channel)

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("channel", _ChannelConvertor())


def build(
    *,
    edge: Edge,
    webhooks: Webhooks,
    api: NativeApi,
    compat: CompatApi,
    health: Health,
    evidence: EvidenceApi,
    streams: Streams,
    intercom: IntercomApp,
    reports: ReportsApi,
    traffic: Counter,
    endpoints: Endpoints,
    screens: Sequence[BaseRoute],
) -> Application:
    """Build the application. The edge is opened and closed with it. `screens` are the routes of pages."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        edge.open()
        streams.broadcaster.open()
        tasks = [asyncio.create_task(traffic.run()), asyncio.create_task(health.watch())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await streams.broadcaster.close()
            await edge.close()

    table = [
        *operations(api, compat, health, reports, evidence, streams=streams, intercom=intercom),
        *endpoint_routes.operations(endpoints),
    ]
    described = openapi.document(table)
    routes = [
        *_routes(table),
        *serving.routes(),
        *screens,
        Route("/openapi.json", _static(msgspec.json.encode(described), "application/json")),
        Route("/docs", _static(openapi.page(described).encode(), "text/html; charset=utf-8")),
        Route("/docs/style.css", _static(openapi.STYLE.encode(), "text/css; charset=utf-8")),
    ]
    routed = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_problem})
    routed.router.redirect_slashes = False
    return Application(webhooks, routed, edge)


def _routes(table: list[Operation]) -> list[Route]:
    """Make one route a path, so that a method not used there is answered with all that are."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in table:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [_route(path, methods) for path, methods in by_path.items()]


def _route(path: str, operations: dict[str, Operation]) -> Route:
    async def endpoint(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        request_id = request.state.request_id = str(uuid4())
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                answer = await operation.handler(request)
            except Problem as problem:
                answer = response(problem, request_id)
            except Exception:
                _log.exception("request_failed", route=path)
                answer = response(Problem("internal", "The failure is logged under this request_id."), request_id)
        metrics.count_request(path, answer.status_code)
        return _signed_off(answer, request_id)

    return Route(path.replace("{channel}", "{channel:channel}"), endpoint, methods=list(operations), name=path)


def _static(body: bytes, media_type: str) -> Any:
    async def endpoint(_: Request) -> Response:
        return Response(body, media_type=media_type, headers={**_SECURITY, "cache-control": "no-cache"})

    return endpoint


async def _http_problem(_: Request, error: Exception) -> Response:
    """Answer what no route took."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "malformed_request")
    headers = getattr(error, "headers", None)
    problem = Problem(code, "See /docs for what is served here.", headers=headers)
    request_id = str(uuid4())
    return _signed_off(response(problem, request_id), request_id)


def _signed_off(answer: Response, request_id: str) -> Response:
    """Add what every answer carries."""
    for name, value in _SECURITY.items():
        answer.headers.setdefault(name, value)
    answer.headers["x-request-id"] = request_id
    return answer

"""Every page, in one table: path, method, the permission it needs, who answers, its entry in the navigation.

Whoever is not signed in is sent to sign in; whoever may not is told so. What concerns all pages is done here, once:
session, token of writes, errors as pages.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote
from uuid import uuid4

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ledger.http import metrics
from ledger.http.edge import Edge
from ledger.http.problems import PROBLEMS, Problem
from ledger.screens import rendering
from ledger.screens.access import Permission, Viewer
from ledger.screens.csrf import FIELD, HEADER, Guard
from ledger.screens.failures import FailuresPage
from ledger.screens.forms import read_form
from ledger.screens.live import MessageStream
from ledger.screens.message import MessagePage
from ledger.screens.messages import MessagesPage
from ledger.screens.operations import OperationsPage
from ledger.screens.proof import ProofBadge
from ledger.screens.rendering import Link, Visit
from ledger.screens.reports import FILES, ReportsPage
from ledger.screens.sessions import Sessions
from ledger.screens.sign_in import SignIn
from ledger.screens.static import STATIC

Endpoint = Callable[[Request], Awaitable[Response]]

_log = structlog.get_logger("ledger.screens")


class Screen(NamedTuple):
    path: str
    method: str
    needs: Permission
    endpoint: Endpoint
    navigation: str | None = None  #: its entry there


def table(
    *,
    sign_in: SignIn,
    messages: MessagesPage,
    message: MessagePage,
    stream: MessageStream,
    proof: ProofBadge,
    failures: FailuresPage,
    reports: ReportsPage,
    operations: OperationsPage,
) -> list[Screen]:
    """Return every page. The navigation has their order."""
    return [
        Screen("/", "GET", Permission.READ, messages.show, "Messages"),
        Screen("/messages/{message_id}", "GET", Permission.READ, message.show),
        Screen("/messages/{message_id}/stream", "GET", Permission.READ, stream.follow),
        Screen("/messages/{message_id}/proof", "GET", Permission.EVIDENCE, proof.show),
        Screen("/failures", "GET", Permission.READ, failures.show, "Failures"),
        Screen("/failures/reason", "GET", Permission.READ, failures.show_reason),
        Screen("/reports", "GET", Permission.READ, reports.show, "Reports"),
        *(Screen(path, "GET", Permission.READ, reports.download) for path in FILES),
        Screen("/operations", "GET", Permission.OPERATIONS, operations.show, "Operations"),
        Screen("/operations/resolve", "POST", Permission.RESOLVE, operations.resolve),
        Screen("/operations/rebuild", "POST", Permission.REBUILD, operations.rebuild),
        Screen("/sign-in", "GET", Permission.SIGN_IN, sign_in.form),
        Screen("/sign-in", "POST", Permission.SIGN_IN, sign_in.sign_in),
        Screen("/sign-out", "POST", Permission.SIGN_IN, sign_in.sign_out),
    ]


class Router:
    """Makes routes of the table."""

    def __init__(
        self,
        *,
        edge: Edge,
        sessions: Sessions,
        guard: Guard,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._edge = edge
        self._sessions = sessions
        self._guard = guard
        self._now = now

    def routes(self, screens: Iterable[Screen]) -> list[BaseRoute]:
        by_path: dict[str, dict[str, Screen]] = {}
        for screen in screens:
            by_path.setdefault(screen.path, {})[screen.method] = screen
        links = [screen for methods in by_path.values() for screen in methods.values() if screen.navigation]
        return [STATIC.route(), *(self._route(path, methods, links) for path, methods in by_path.items())]

    def _route(self, path: str, methods: Mapping[str, Screen], links: list[Screen]) -> Route:
        async def endpoint(request: Request) -> Response:
            screen = methods["GET" if request.method == "HEAD" else request.method]
            request_id = str(uuid4())
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                answer = await self._answer(request, screen, links, request_id)
            metrics.count_request(path, answer.status_code)
            answer.headers["x-request-id"] = request_id
            for name, value in rendering.HEADERS.items():
                answer.headers.setdefault(name, value)
            return answer

        return Route(path, endpoint, methods=list(methods), name=f"screen {path}")

    async def _answer(self, request: Request, screen: Screen, links: list[Screen], request_id: str) -> Response:
        """Return the page, or what is wrong as a page."""
        session = self._sessions.read(request, now := self._now())
        csrf = self._guard.token(session) if session is not None else ""
        visit = Visit(viewer=None, session=session, csrf=csrf, navigation=(), now=now, form={})
        request.state.visit = visit
        try:
            viewer = await self._edge.read(self._sessions.viewer, session) if session is not None else None
            visit = msgspec.structs.replace(visit, viewer=viewer, navigation=_navigation(viewer, links))
            request.state.visit = visit
            if screen.method == "POST":
                form = await read_form(request)
                self._guard.check(request, session, request.headers.get(HEADER) or form.get(FIELD, ""))
                request.state.visit = msgspec.structs.replace(visit, form=form)
            if screen.needs is not Permission.SIGN_IN:
                if viewer is None:
                    return _to_sign_in(request)
                if not viewer.may(screen.needs):
                    raise Problem("forbidden", f"This needs the permission “{screen.needs.value}”.")
            return await screen.endpoint(request)
        except Problem as problem:
            return _problem(request, problem, request_id)
        except Exception:
            _log.exception("request_failed", route=screen.path)
            internal = Problem("internal", "The failure is logged under this request's id.")
            return _problem(request, internal, request_id)


def _navigation(viewer: Viewer | None, links: list[Screen]) -> tuple[Link, ...]:
    if viewer is None:
        return ()
    return tuple(Link(screen.path, screen.navigation or "") for screen in links if viewer.may(screen.needs))


def _to_sign_in(request: Request) -> Response:
    """Send somebody to sign in, and back afterwards. A stream cannot be sent anywhere: it ends."""
    if "text/event-stream" in request.headers.get("accept", ""):
        return Response(status_code=401)
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.headers.get("hx-request") == "true":
        back = _local(request.headers.get("hx-current-url", "")) or "/"
    return rendering.redirect(
        request, f"/sign-in?next={quote(back, safe='')}" if request.method != "POST" else "/sign-in"
    )


def _local(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return rest[rest.find("/") :] if scheme in ("http", "https") and "/" in rest else ""


def _problem(request: Request, problem: Problem, request_id: str) -> Response:
    status, title = PROBLEMS[problem.code]
    answer = rendering.page(
        request, "problem.html", status, status=status, title=title, problem=problem, request_id=request_id
    )
    for name, value in problem.headers.items():
        answer.headers[name] = value
    return answer

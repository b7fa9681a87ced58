"""Pages: templates that come along, filled in and sent with what every page carries.

A template gets `viewer` (None before sign-in), `navigation`, `path`, `csrf` (the token of forms), `now`, and what its
page tells it. Everything is escaped unless it was made as markup here; a name that nobody told is an error.
"""

from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from ledger.screens.access import Viewer
from ledger.screens.formats import FILTERS
from ledger.screens.sessions import Session
from ledger.screens.static import STATIC

#: Nothing is loaded from elsewhere, nothing inline is run or applied, and no other page may show ours inside itself.
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
#: What htmx may do: nothing that the policy above forbids, and nothing beyond our own origin.
_HTMX: Final = {
    "allowEval": False,
    "includeIndicatorStyles": False,
    "selfRequestsOnly": True,
    "historyCacheSize": 0,
    "responseHandling": [{"code": ".*", "swap": True}],
}


class Link(NamedTuple):
    """An entry of the navigation."""

    path: str
    text: str


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a request before its page begins. `of` finds it."""

    viewer: Viewer | None
    session: Session | None
    csrf: str
    navigation: tuple[Link, ...]
    now: datetime
    form: dict[str, str]  #: of a write


def of(request: Request) -> Visit:
    visit: Visit = request.state.visit
    return visit


def viewer_of(request: Request) -> Viewer:
    """Return who looks. Only for pages that need a permission: there is somebody then."""
    viewer = of(request).viewer
    assert viewer is not None  # noqa: S101  # admitted by `ledger.screens.routes`
    return viewer


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ledger.screens"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(static=STATIC.url, htmx_config=msgspec.json.encode(_HTMX).decode())
    return environment


_TEMPLATES: Final = _environment()


def page(request: Request, template: str, status_code: int = 200, **context: Any) -> Response:
    """Return a filled-in template as an answer."""
    visit = of(request)
    text = _TEMPLATES.get_template(template).render(
        viewer=visit.viewer,
        navigation=visit.navigation,
        csrf=visit.csrf,
        now=visit.now,
        path=request.url.path,
        **context,
    )
    return Response(text, status_code, media_type="text/html", headers=HEADERS)


def redirect(request: Request, to: str) -> Response:
    """Send a browser to another page of ours: by htmx's own header if it asked through that."""
    if request.headers.get("hx-request") == "true":
        return Response(status_code=200, headers={**HEADERS, "hx-redirect": to})
    return Response(status_code=303, headers={**HEADERS, "location": to})

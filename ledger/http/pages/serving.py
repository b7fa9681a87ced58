"""Pages: files that come along, served as they are. What they show they ask the API for, with the reader's own key."""

from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

#: Scripts and styles come from here, nothing else is loaded, and no other page may show this one inside itself.
HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
}
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
}
#: Path -> file.
PAGES: Final = {
    "/pages/webhooks": "webhooks.html",
    "/pages/webhooks.css": "webhooks.css",
    "/pages/webhooks.js": "webhooks.js",
}


def routes() -> list[Route]:
    return [_route(path, name) for path, name in PAGES.items()]


def _route(path: str, name: str) -> Route:
    body = files("ledger.http.pages").joinpath(name).read_bytes()
    media_type = _TYPES[name.rpartition(".")[2]]

    async def endpoint(_: Request) -> Response:
        return Response(body, media_type=media_type, headers=HEADERS)

    return Route(path, endpoint)

"""Scripts and styles, served under names that carry a hash of what is in them: a browser may keep them for ever."""

import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_HASH_DIGITS: Final = 16
_HEADERS: Final = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}


def _sources(directory: Traversable) -> Iterator[tuple[str, bytes]]:
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.name.rpartition(".")[2] in _TYPES:
            yield entry.name, entry.read_bytes()


class Static:
    """The files, read once. Names are unique, whatever directory a file is in."""

    def __init__(self) -> None:
        self._served: dict[str, tuple[bytes, str]] = {}  #: hashed name -> body, media type
        self._names: dict[str, str] = {}  #: name -> hashed name
        for name, body in _sources(files("ledger.screens").joinpath("static")):
            stem, _, kind = name.rpartition(".")
            hashed = f"{stem}.{hashlib.sha256(body).hexdigest()[:_HASH_DIGITS]}.{kind}"
            self._names[name] = hashed
            self._served[hashed] = body, _TYPES[kind]

    def url(self, name: str) -> str:
        """Return where a file is served. Raises KeyError for one that there is not."""
        return f"/static/{self._names[name]}"

    def route(self) -> Route:
        return Route("/static/{name}", self._answer)

    async def _answer(self, request: Request) -> Response:
        found = self._served.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        body, media_type = found
        return Response(body, media_type=media_type, headers=_HEADERS)


STATIC: Final = Static()

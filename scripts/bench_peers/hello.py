"""The least a routed Starlette service can do for a callback: read the body and answer."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scripts.bench_suite.callbacks import PATH


def prepare(_database_url: str) -> None:
    """Nothing is stored."""


def application(_database_url: str) -> Starlette:
    async def endpoint(request: Request) -> Response:
        await request.body()
        return Response()

    return Starlette(routes=[Route(PATH, endpoint, methods=["POST"])])

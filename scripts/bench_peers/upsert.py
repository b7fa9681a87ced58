"""A hand-written handler without history: one upsert of the status a callback.

Starlette and psycopg's asynchronous pool; prepared statement in autocommit, room on the pages for updates in place.
Tuned: the number of connections that was fastest.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import psycopg
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scripts.bench_peers import hook
from scripts.bench_suite.callbacks import PATH, SIGNATURE

#: Connections; measured 4, 8, 16 and 32.
POOL_SIZE: Final = 16
_TABLE: Final = b"""
CREATE TABLE messages (
    id text PRIMARY KEY,
    status text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70)
"""
_UPSERT: Final = b"""
INSERT INTO messages (id, status) VALUES (%s, %s)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, updated_at = excluded.updated_at
"""


def prepare(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_TABLE)


def application(database_url: str, pool_size: int = POOL_SIZE) -> Starlette:
    pool = AsyncConnectionPool(
        database_url, min_size=pool_size, max_size=pool_size, open=False, kwargs={"autocommit": True}
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with pool:
            await pool.wait()
            yield

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        if not hook.is_signed(body, request.headers.get(SIGNATURE, "")):
            return Response(status_code=401)
        for status in hook.statuses(body):
            async with pool.connection() as connection:
                await connection.execute(_UPSERT, (status.id, status.status), prepare=True)
        return Response()

    return Starlette(routes=[Route(PATH, endpoint, methods=["POST"])], lifespan=lifespan)

"""A hello-world service whose answer is one row, selected by primary key.

Starlette and psycopg's asynchronous pool, prepared statement in autocommit. Tuned: the number of connections.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

#: Connections; measured 2, 4, 8 and 16.
POOL_SIZE: Final = 8
ROWS: Final = 20_000
_TABLES: Final = b"""
CREATE TABLE messages (id bigint PRIMARY KEY, status text NOT NULL, updated_at timestamptz NOT NULL DEFAULT now());
INSERT INTO messages SELECT n, 'DELIVERED' FROM generate_series(1, 20000) n;
VACUUM ANALYZE messages;
"""
_SELECT: Final = b"SELECT status FROM messages WHERE id = %s"


def prepare(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in _TABLES.split(b";"):
            if statement.strip():
                connection.execute(statement)


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
        number = int(request.path_params["id"])
        async with pool.connection() as connection:
            cursor = await connection.execute(_SELECT, (number,), prepare=True)
            row = await cursor.fetchone()
        answer = {"id": number, "status": row[0] if row else None}
        return Response(msgspec.json.encode(answer), media_type="application/json")

    return Starlette(routes=[Route("/messages/{id}", endpoint)], lifespan=lifespan)

"""The same job on the stock `eventsourcing` library: one aggregate a message, one transaction a request.

As its documentation shows it: an aggregate with decorated events, the PostgreSQL module, the default JSON transcoder,
no extension. Tuned: one event a callback (the first creates the aggregate), lean decoding, keys of earlier
observations in a set, the number of threads and connections that was fastest.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID, uuid5

import anyio.to_thread
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError
from psycopg.conninfo import conninfo_to_dict
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from scripts.bench_peers import hook
from scripts.bench_suite.callbacks import ACCOUNT, PATH, SIGNATURE

#: Threads and connections; measured 2, 4, 8, 16 and 40.
POOL_SIZE: Final = 4
_NAMESPACE: Final = UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")
_RANKS: Final = {"sent": 1, "delivered": 2, "read": 3, "failed": 4}
_ATTEMPTS: Final = 5


class Message(Aggregate):
    @event("Opened")
    def __init__(self, *, account: str, reference: str, status: str, at: str, code: str, digest: str):
        self.account = account
        self.reference = reference
        self.status = status
        self.seen = {f"{status}:{at}"}

    @staticmethod
    def create_id(account: str, reference: str) -> UUID:
        return uuid5(_NAMESPACE, f"{account}:{reference}")

    def observe(self, status: str, at: str, code: str, digest: str) -> None:
        if f"{status}:{at}" not in self.seen:
            self._observe(status, at, code, digest)

    @event("Observed")
    def _observe(self, status: str, at: str, code: str, digest: str) -> None:
        self.seen.add(f"{status}:{at}")
        if _RANKS.get(status, 0) > _RANKS.get(self.status, 0):
            self.status = status


class Messages(Application[UUID]):
    def record(self, statuses: list[hook.Status], digest: str) -> None:
        """Record a request's statuses in one transaction; begin again if another request was first."""
        for _ in range(_ATTEMPTS):
            changed = [self._observed(status, digest) for status in statuses]
            try:
                self.save(*changed)
                return
            except IntegrityError:
                continue
        raise IntegrityError("too many attempts")

    def _observed(self, status: hook.Status, digest: str) -> Message:
        code = str(status.errors[0].code) if status.errors else ""
        try:
            message: Message = self.repository.get(Message.create_id(ACCOUNT, status.id))
        except AggregateNotFoundError:
            return Message(
                account=ACCOUNT,
                reference=status.id,
                status=status.status,
                at=status.timestamp,
                code=code,
                digest=digest,
            )
        message.observe(status.status, status.timestamp, code, digest)
        return message


def environment(database_url: str, pool_size: int, *, create: bool) -> dict[str, str]:
    told = conninfo_to_dict(database_url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(told["dbname"]),
        "POSTGRES_HOST": str(told.get("host") or ""),
        "POSTGRES_PORT": str(told.get("port") or "5432"),
        "POSTGRES_USER": str(told.get("user") or "postgres"),
        "POSTGRES_PASSWORD": str(told.get("password") or "none"),
        "POSTGRES_POOL_SIZE": str(pool_size),
        "POSTGRES_MAX_OVERFLOW": "0",
        "POSTGRES_MAX_WAITING": "1000",
        "POSTGRES_CONNECT_TIMEOUT": "30",
        "CREATE_TABLE": "y" if create else "n",
    }


def prepare(database_url: str) -> None:
    Messages(environment(database_url, 1, create=True)).close()


def application(database_url: str, pool_size: int = POOL_SIZE) -> Starlette:
    assert "POSTGRES_ENABLE_DB_FUNCTIONS" not in os.environ
    messages: list[Any] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = pool_size
        messages.append(Messages(environment(database_url, pool_size, create=False)))
        yield
        messages[0].close()

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        signature = request.headers.get(SIGNATURE, "")
        if not hook.is_signed(body, signature):
            return Response(status_code=401)
        await run_in_threadpool(messages[0].record, hook.statuses(body), signature)
        return Response()

    return Starlette(routes=[Route(PATH, endpoint, methods=["POST"])], lifespan=lifespan)

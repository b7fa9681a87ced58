"""Read models with the stock library: its `ProjectionRunner` over the stock application of `stock`.

As its documentation shows it: a projection whose every event is one transaction with its tracking record, a view on
PostgreSQL. It keeps a status a message and counts of messages by status and hour: less than the reports do.
"""

import time
from typing import Any, Final

from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL

from scripts.bench_peers import hook, stock

_CREATE: Final = (
    SQL("CREATE TABLE IF NOT EXISTS stock_status (id uuid PRIMARY KEY, status text NOT NULL)"),
    SQL(
        "CREATE TABLE IF NOT EXISTS stock_counts"
        " (hour bigint, status text, messages bigint, PRIMARY KEY (hour, status))"
    ),
)
_STATUS: Final = SQL("INSERT INTO stock_status VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET status = excluded.status")
_COUNT: Final = SQL(
    "INSERT INTO stock_counts VALUES (%s, %s, 1)"
    " ON CONFLICT (hour, status) DO UPDATE SET messages = stock_counts.messages + 1"
)


class View(PostgresTrackingRecorder):
    def __init__(self, datastore: Any, **options: Any) -> None:
        super().__init__(datastore, **options)
        self.sql_create_statements.extend(_CREATE)

    def observed(self, id_: Any, status: str, hour: int, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(_STATUS, (id_, status), prepare=True)
            cursor.execute(_COUNT, (hour, status), prepare=True)


class Statuses(Projection[View]):
    name = "statuses"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        status = getattr(domain_event, "status", "")
        hour = int(domain_event.timestamp.timestamp()) // 3_600
        self.view.observed(domain_event.originator_id, status, hour, tracking)


def run(database_url: str, statuses: list[hook.Status]) -> float:
    """Record statuses in the stock application, then return how many events a second its runner applies."""
    stock.prepare(database_url)
    environ = stock.environment(database_url, 4, create=True)
    messages = stock.Messages(environ)
    try:
        for start in range(0, len(statuses), 100):
            messages.record(statuses[start : start + 100], "digest")
        last = messages.recorder.max_notification_id()
    finally:
        messages.close()
    assert last
    began = time.perf_counter()
    with ProjectionRunner(
        application_class=stock.Messages, projection_class=Statuses, view_class=View, env=environ
    ) as runner:
        runner.wait(last, timeout=120)
        return float(last / (time.perf_counter() - began))

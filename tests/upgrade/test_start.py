"""Servers that start at once on an empty database: each becomes ready, one of them has made the schema, all record.

`START_ROUNDS` says how often; twenty times is what was tried for docs/reliability.md.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ledger.store import migrations
from tests.http.callbacks import meta, meta_status, new_wamid, only, send
from tests.plugins.service import Starter

SERVERS = 4
ROUNDS = int(os.environ.get("START_ROUNDS", "1"))


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_servers_that_start_at_once_on_an_empty_database_all_serve(
    start_service: Starter, make_database: Callable[..., str], attempt: int
) -> None:
    url = make_database()
    with ThreadPoolExecutor(SERVERS) as pool:
        servers = list(pool.map(lambda _: start_service(url), range(SERVERS)))
        wamids = [new_wamid() for _ in range(5 * SERVERS)]
        answers = list(
            pool.map(lambda told: send(servers[told[0] % SERVERS], meta(meta_status(told[1]))), enumerate(wamids))
        )

    assert {answer.status_code for answer in answers} == {200}
    assert {server.client().get("/readyz").status_code for server in servers} == {200}
    api = servers[0].api()
    assert {only(api, wamid)["version"] for wamid in wamids} == {1}
    applied = servers[0].rows("SELECT name FROM schema_migrations ORDER BY number")
    assert [name for (name,) in applied] == [name for _, name, _ in migrations.migrations()]
    assert {server.stop() for server in servers} == {0}

"""Law 1 end to end: whatever order and however often callbacks come in, every reader ends up with the same answer.

What a message shows is compared up to what must differ: its ids, the fields that follow our own clock, and the number
of statements recorded. Where the evidence holds a failure and a delivery, the outcome recorded first stands, and
nothing else may depend on the order.
"""

import itertools
import random
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict

from tests.http.callbacks import Callback, history, meta, meta_failure, meta_status, new_wamid, only, send
from tests.http.test_webhooks import total
from tests.plugins.service import Service, eventually

CLIENTS = 8

#: Fields that tell messages apart, or that follow the time of receipt.
DIFFERENT = {"message_id", "provider_message_id", "status_url", "opened_at", "last_heard_at", "version"}

#: What Meta may say about one message, each with a clock of its own.
CLAIMS = {
    "accepted": lambda wamid: meta_status(wamid, "accepted", 1),
    "sent": lambda wamid: meta_status(wamid, "sent", 2),
    "delivered": lambda wamid: meta_status(wamid, "delivered", 3),
    "read": lambda wamid: meta_status(wamid, "read", 4),
    "deleted": lambda wamid: meta_status(wamid, "deleted", 5),
    "failed": lambda wamid: meta_failure(wamid, 6),
    "failed again": lambda wamid: meta_failure(wamid, 7, code=131049),
    "shipped": lambda wamid: meta_status(wamid, "shipped", 8),
}
DELIVERIES = {"delivered", "read", "deleted"}
FAILURES = {"failed", "failed again"}

Order = tuple[str, ...]

#: Sets of claims of which every order is tried.
SETS: list[Order] = [
    ("sent", "delivered", "read"),
    ("sent", "failed", "failed again"),
    ("sent", "failed", "shipped"),
    ("failed", "delivered"),
    ("sent", "delivered", "failed"),
    ("sent", "delivered", "read", "failed"),
    ("delivered", "read", "failed", "failed again"),
    ("accepted", "sent", "delivered", "read", "deleted"),
    ("accepted", "sent", "delivered", "read", "failed"),
]


@pytest.fixture(scope="module")
def two_workers(start_module_service, new_database) -> Service:
    """The same service in two processes, so that they race for the same streams."""
    return start_module_service(new_database(), "--workers", "2")


@pytest.fixture(params=["one process", "two processes"])
def server(request, service) -> Service:
    return service if request.param == "one process" else request.getfixturevalue("two_workers")


def view(message: dict[str, Any]) -> dict[str, Any]:
    """Return what a message shows, less what must differ."""
    claims = [
        {name: value for name, value in claim.items() if name != "received_at"}
        for claim in sorted(message["conflict_claims"], key=lambda claim: claim["outcome"])
    ]
    return {**{name: value for name, value in message.items() if name not in DIFFERENT}, "conflict_claims": claims}


def outcome_first(order: Iterable[str]) -> str:
    """Return the outcome that is recorded first."""
    decided = (("delivered" if claim in DELIVERIES else "failed") for claim in order if claim in DELIVERIES | FAILURES)
    return next(decided, "pending")


def is_conflict(claims: Iterable[str]) -> bool:
    told = set(claims)
    return bool(told & DELIVERIES) and bool(told & FAILURES)


def without_first_witness(shown: dict[str, Any]) -> dict[str, Any]:
    """Drop which claim of an outcome was recorded first: with two of one outcome it depends on their order."""
    return {name: value for name, value in shown.items() if name != "conflict_claims"}


def everywhere_equal(views: Sequence[tuple[Order, dict[str, Any]]]) -> None:
    """Check that views agree: all of them, or those with the same outcome first where the claims conflict."""
    for _, group in itertools.groupby(
        sorted(views, key=lambda one: outcome_first(one[0])), lambda one: outcome_first(one[0])
    ):
        first, *rest = [(order, without_first_witness(shown)) for order, shown in group]
        for order, shown in rest:
            assert first[1] == shown, (first[0], order)
    in_any_order = (
        "queued_at",
        "sent_at",
        "delivered_at",
        "read_at",
        "failed_at",
        "deleted_at",
        "time_basis",
        "conflict",
    )
    for name in in_any_order:
        assert len({repr(shown[name]) for _, shown in views}) == 1, name


def in_parallel(service: Service, streams: Sequence[Sequence[Callback]]) -> None:
    """Deliver each stream's callbacks one after another, many streams at once."""
    clients = [service.another_client() for _ in range(CLIENTS)]

    def deliver(number: int) -> None:
        for stream in streams[number::CLIENTS]:
            for callback in stream:
                assert send(service, callback, client=clients[number]).status_code == 200

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(deliver, range(CLIENTS)))
    for client in clients:
        client.close()


@pytest.mark.parametrize("claims", SETS, ids="+".join)
def test_every_order_of_a_messages_callbacks_ends_alike(server, claims):
    api = server.api()
    orders = [(order, new_wamid()) for order in itertools.permutations(claims)]

    in_parallel(server, [[meta(CLAIMS[claim](wamid)) for claim in order] for order, wamid in orders])

    messages = [(order, only(api, wamid)) for order, wamid in orders]
    everywhere_equal([(order, view(message)) for order, message in messages])
    for order, message in messages:
        assert message["version"] == len(claims)
        assert message["conflict"] == ("open" if is_conflict(claims) else "none")
        if is_conflict(claims):
            assert (message["status"] == "FAILED") == (outcome_first(order) == "failed")


@pytest.mark.parametrize("claims", SETS[-4:], ids="+".join)
def test_every_order_within_one_request_ends_alike(service, claims):
    api = service.api()
    orders = [(order, new_wamid()) for order in itertools.permutations(claims)]

    for order, wamid in orders:
        assert send(service, meta(*(CLAIMS[claim](wamid) for claim in order))).status_code == 200

    everywhere_equal([(order, view(only(api, wamid))) for order, wamid in orders])


@pytest.mark.parametrize(
    "claims", [("accepted", "sent", "delivered", "read", "deleted"), ("sent", "failed", "shipped")], ids="+".join
)
def test_any_order_and_any_number_of_copies_from_many_clients_end_alike(server, claims):
    """Nobody waits for anybody: copies of one message's callbacks race each other, 1 to 46 of each."""
    api, chance = server.api(), random.Random(20261121)
    wamids = [new_wamid() for _ in range(6)]
    deliveries = [
        meta(CLAIMS[claim](wamid)) for wamid in wamids for claim in claims for _ in range(chance.choice((1, 2, 3, 46)))
    ]
    chance.shuffle(deliveries)

    in_parallel(server, [[delivery] for delivery in deliveries])

    messages = [only(api, wamid) for wamid in wamids]
    everywhere_equal([(claims, view(message)) for message in messages])
    for message in messages:
        events = history(api, message)
        assert sorted(event["provider_status"] for event in events) == sorted(
            "failed" if claim == "failed again" else claim for claim in claims
        )
        assert message["version"] == len(claims)


def test_a_racing_conflict_is_open_and_keeps_its_first_outcome(server):
    api = server.api()
    wamids = [new_wamid() for _ in range(16)]
    deliveries = [meta(CLAIMS[claim](wamid)) for wamid in wamids for claim in ("delivered", "failed", "read")]
    random.Random(7).shuffle(deliveries)

    in_parallel(server, [[delivery] for delivery in deliveries])

    for wamid in wamids:
        message = only(api, wamid)
        recorded = tuple(event["provider_status"] for event in history(api, message))
        expected = "FAILED" if outcome_first(recorded) == "failed" else "READ"
        assert (message["status"], message["conflict"], message["version"]) == (expected, "open", 3)
        assert sorted(recorded) == ["delivered", "failed", "read"]


def test_a_storm_of_one_callback_leaves_one_event(server):
    wamid, api = new_wamid(), server.api()
    storm = [[meta(meta_status(wamid, "delivered"))] for _ in range(50)]
    before = total(server, "ledger_redelivered_total", provider="meta")

    in_parallel(server, storm)

    message = only(api, wamid)
    assert len(history(api, message)) == message["version"] == 1
    assert server.rows("SELECT count(*) FROM events WHERE stream_id = %s", history(api, message)[0]["stream_id"]) == [
        (1,)
    ]
    assert total(server, "ledger_redelivered_total", provider="meta") == before + 49


def test_overlapping_batches_from_many_clients_record_each_statement_once(server):
    """Batches that share messages in different orders must neither deadlock nor record anything twice."""
    api, chance = server.api(), random.Random(11)
    wamids = [new_wamid() for _ in range(40)]
    batches = [chance.sample(wamids, 30) for _ in range(24)]

    in_parallel(server, [[meta(*(meta_status(wamid, "delivered") for wamid in batch))] for batch in batches])

    assert {only(api, wamid)["version"] for wamid in {wamid for batch in batches for wamid in batch}} == {1}
    assert server.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


def test_a_readers_answers_never_step_back(server):
    """While callbacks race, whoever reads sees a status that only climbs."""
    order = ["UNKNOWN", "QUEUED", "SENT", "DELIVERED", "READ", "DELETED"]
    api, wamid = server.api(), new_wamid()
    claims = ["accepted", "sent", "delivered", "read", "deleted"] * 6
    random.Random(3).shuffle(claims)
    send(server, meta(CLAIMS["accepted"](wamid)))
    path = f"/v1/messages/{only(api, wamid)['message_id']}"
    seen: list[tuple[int, int]] = []

    with ThreadPoolExecutor(1) as pool:
        delivering = pool.submit(in_parallel, server, [[meta(CLAIMS[claim](wamid))] for claim in claims])
        while not delivering.done() or not seen:
            told = api.get(path).json()
            seen.append((order.index(told["status"]), told["version"]))
        delivering.result()

    assert seen == sorted(seen)
    assert api.get(path).json()["status"] == "DELETED"


def test_both_processes_take_part(two_workers):
    """Without this, two processes of which one does everything would pass for a race."""

    def taking_part() -> list[str]:
        in_parallel(two_workers, [[meta(meta_status(new_wamid()))] for _ in range(CLIENTS * 4)])
        files = Path(two_workers.environ["LEDGER_DATA_DIR"]).glob("metrics/counter_*.db")
        counted = {file.name: MmapedDict.read_all_values_from_file(str(file)) for file in files}
        return [
            name
            for name, values in counted.items()
            if any(value for key, value, *_ in values if "ledger_webhooks_total" in key)
        ]

    assert eventually(lambda: len(taking_part()) == 2, "both processes answer")


def test_positions_and_versions_have_no_gap_after_all_that(server):
    in_parallel(
        server, [[meta(meta_status(new_wamid(), "delivered"), meta_status(new_wamid(), "sent"))] for _ in range(20)]
    )

    assert server.rows("SELECT count(*) - max(position) FROM events") == [(0,)]
    assert server.rows("SELECT stream_id FROM events GROUP BY stream_id HAVING count(*) <> max(version)") == []
    assert server.rows("SELECT position FROM partition_heads") == server.rows("SELECT max(position) FROM events")

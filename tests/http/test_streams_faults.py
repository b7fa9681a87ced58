"""Streams under strain: clients that do not read, keys that end, a server that ends, a database that goes away."""

import signal
import threading
import time

import psycopg
import pytest

from tests.http.callbacks import meta, meta_status, new_wamid, send
from tests.http.idle_streams import megabytes, opened
from tests.http.sse import Stream, open_streams, settled
from tests.http.test_api import registered
from tests.plugins.service import Service, eventually


@pytest.fixture
def alone(start_service, database_url) -> Service:
    """A server of the test's own."""
    return start_service(database_url)


def key_of(service: Service) -> str:
    return service.new_key("meta-main", "whatsapp")[1]


def burst(service: Service, count: int = 1_000) -> list[str]:
    """Have so many events recorded by one callback."""
    wamids = [new_wamid() for _ in range(count)]
    answer = send(service, meta(*(meta_status(wamid) for wamid in wamids)))
    assert answer.status_code == 200
    return wamids


def ended(service: Service, reason: str) -> int:
    text = service.client().get("/metrics").text
    found = [line for line in text.splitlines() if line.startswith(f'ledger_streams_ended_total{{reason="{reason}"}}')]
    return int(float(found[0].split()[1])) if found else 0


def test_a_client_that_does_not_read_is_cut_and_keeps_nobody_waiting(alone):
    key = key_of(alone)
    with (
        Stream(alone, "/v1/events", key, receives=4_096) as slow,
        Stream(alone, "/v1/events", key) as quick,
    ):
        settled(alone, 2)
        wamids = []
        while not ended(alone, "slow"):
            more = burst(alone)
            wamids += more
            heard = quick.until(lambda event: event.data["provider_message_id"] == more[-1])  # noqa: B023
            assert [event.data["provider_message_id"] for event in heard] == more
            assert len(wamids) < 20_000
        settled(alone, 1)
        with pytest.raises((ConnectionError, OSError)):
            slow.rest()

        with Stream(alone, "/v1/events", key, slow.last_id or "0") as again:
            resumed = again.until(lambda event: event.data["provider_message_id"] == wamids[-1])
    assert len({event.data["position"] for event in resumed}) == len(resumed)
    assert alone.log().count("stream_cut") == 1
    assert "Traceback" not in alone.log()


@pytest.mark.parametrize("reading", [True, False], ids=["who read", "who do not read"])
def test_a_server_that_is_told_to_end_does_not_wait_for_those_who_listen(alone, reading):
    key = key_of(alone)
    message_id = registered(alone.client(key))
    streams = [Stream(alone, "/v1/events", key, receives=4_096) for _ in range(20)]
    streams += [Stream(alone, f"/v1/messages/{message_id}/events", key) for _ in range(20)]
    settled(alone, 40)
    if not reading:
        burst(alone, 800)
    last = streams[0].next() if reading and burst(alone, 1) else None

    began = time.monotonic()
    code = alone.stop(signal.SIGTERM)

    assert (code, time.monotonic() - began < 4) == (0, True)
    assert "Traceback" not in alone.log()
    if last is not None:
        for stream in streams:
            stream.rest()  # every stream ends as HTTP wants it, and none is torn
            assert stream.is_over
    for stream in streams:
        stream.close()


def test_what_was_recorded_while_the_server_was_away_is_told_afterwards(alone, start_service, database_url):
    key = key_of(alone)
    with Stream(alone, "/v1/events", key) as stream:
        first = burst(alone, 1)
        assert stream.next().data["provider_message_id"] == first[0]
        alone.stop()
        stream.rest()
    again = start_service(database_url)
    others = burst(again, 3)

    with Stream(again, "/v1/events", key, stream.last_id) as resumed:
        assert [event.data["provider_message_id"] for event in resumed.take(3)] == others


def test_a_key_that_ends_stops_listening(alone):
    key, secret = alone.new_key("meta-main", "whatsapp")
    message_id = registered(alone.client(secret))
    with (
        Stream(alone, "/v1/events", secret) as tail,
        Stream(alone, f"/v1/messages/{message_id}/events", secret) as one,
        Stream(alone, "/v1/events", key_of(alone)) as another,
    ):
        settled(alone, 3)
        alone.parts.keys.revoke(key.id)
        tail.rest()
        one.rest()
        wamid = burst(alone, 1)[0]

        assert another.next().data["provider_message_id"] == wamid
        assert ended(alone, "key_ended") == 2


def test_no_more_streams_are_opened_than_are_allowed(start_service, database_url):
    service = start_service(database_url, streams_max="2")
    key = key_of(service)
    streams = [Stream(service, "/v1/events", key) for _ in range(2)]

    with Stream(service, "/v1/events", key) as refused:
        assert (refused.status, refused.body()["code"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) >= 1
    streams[0].close()
    settled(service, 1)
    with Stream(service, "/v1/events", key) as admitted:
        assert admitted.status == 200
    streams[1].close()


def test_streams_outlive_the_database_and_miss_nothing(alone):
    key = key_of(alone)
    with Stream(alone, "/v1/events", key) as stream:
        settled(alone, 1)
        before = burst(alone, 2)
        assert [event.data["provider_message_id"] for event in stream.take(2)] == before
        _cut_connections(alone.database_url)
        after = burst_again(alone)

        assert [event.data["provider_message_id"] for event in stream.take(len(after))] == after
    assert "streams_failed" not in alone.log()


def burst_again(service: Service) -> list[str]:
    """Have something recorded as soon as the server has a connection again."""
    wamid = new_wamid()
    eventually(lambda: send(service, meta(meta_status(wamid))).status_code == 200, "a callback is recorded")
    return [wamid]


def _cut_connections(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.mark.parametrize("partitions", ["4", "256"])
def test_a_divided_log_is_told_in_full_and_resumed_in_every_partition(start_service, make_database, partitions):
    service = start_service(make_database(), partitions=partitions)
    key = key_of(service)
    seen, wamids, last_id = [], [], None
    for _ in range(4):
        with Stream(service, "/v1/events", key, last_id) as stream:
            more = burst(service, 25)
            wamids += more
            done: set[str] = set()
            while not done >= set(more):
                event = stream.next()
                seen.append(event.data)
                done.add(event.data["provider_message_id"])
            last_id = stream.last_id
        wamids += burst(service, 5)
    with Stream(service, "/v1/events", key, last_id) as stream:
        seen += [event.data for event in stream.take(5)]

    told = [data["provider_message_id"] for data in seen]
    assert sorted(told) == sorted(wamids)
    assert len({(data["partition"], data["position"]) for data in seen}) == len(seen)
    assert last_id is not None
    assert len(last_id.split(".")) == int(partitions)
    by_partition: dict[int, list[int]] = {}
    for data in seen:
        by_partition.setdefault(data["partition"], []).append(data["position"])
    assert len(by_partition) > 1
    assert all(found == sorted(found) for found in by_partition.values())


def test_a_stream_with_nothing_to_tell_says_that_it_is_alive_and_where_it_stands(start_service, database_url):
    alone = start_service(database_url, stream_pulse_seconds="1")
    other = alone.new_key("viber-main", "viber")[1]
    with Stream(alone, "/v1/events", other) as quiet:
        quiet.wait_for_pulse(30)
        began = quiet.last_id
        burst(alone, 3)
        while quiet.last_id == began:
            quiet.wait_for_pulse(30)
        told = quiet.last_id

    with Stream(alone, "/v1/events", other, told):
        assert open_streams(alone) == 1
    assert int(told) == int(began) + 3


def test_writers_of_other_processes_are_heard(start_service, database_url):
    service = start_service(database_url, "--workers", "2")
    key = key_of(service)
    with Stream(service, "/v1/events", key) as stream:
        stop = threading.Event()
        sent: list[str] = []

        def write() -> None:
            with service.another_client() as client:
                while not stop.is_set() and len(sent) < 40:
                    wamid = new_wamid()
                    if send(service, meta(meta_status(wamid)), client=client).status_code == 200:
                        sent.append(wamid)

        writers = [threading.Thread(target=write) for _ in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(30)
        stop.set()
        heard = [event.data["provider_message_id"] for event in stream.take(len(sent))]

    assert sorted(heard) == sorted(sent)


def test_an_idle_stream_costs_little(alone):
    """5,000 of them must fit into 300 MB with the server itself, which needs 100 MB at most."""
    before = megabytes(alone)
    streams = opened(alone, 300)

    assert (megabytes(alone) - before) / 300 < 200 / 5_000
    assert before < 100

    for stream in streams:
        stream.close()
    settled(alone, 0)

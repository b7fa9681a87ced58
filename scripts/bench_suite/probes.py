"""What is measured, one function each. A probe starts what it needs on a fresh database and returns named numbers.

A rate is a number a second; names end in their unit.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from ledger.domain.status import Channel, Style
from projections.registry import PROJECTIONS
from projections.reports import Reports
from scripts.bench_peers import bare, hook, raw, runner, select_one, uma
from scripts.bench_suite import (
    callbacks,
    database,
    evidence,
    following,
    growth,
    load,
    mixed,
    overload,
    polling,
    servers,
    statuses,
    units,
    vacuum,
)

#: Length of an event's state with full evidence, for rows that imitate it (see `bytes_per_event`).
STATE_BYTES: Final = 900
#: Jobs prepared for a second of the write path alone: more than it can write.
_JOBS_A_SECOND: Final = 20_000
#: Callbacks prepared for a second over HTTP: more than a route that only reads the body takes on a fast machine.
_CALLBACKS_A_SECOND: Final = 60_000
_READ_EVENTS: Final = 15_000
_SIZE_EVENTS: Final = 100_000
_CALLERS: Final = 32
_FOLLOWED_EVENTS: Final = 200_000
_RUNNER_EVENTS: Final = 3_000
#: That rebuild side by side: one a core.
_PROCESSES: Final = os.cpu_count() or 1
_OPEN_MESSAGES: Final = 10_000_000  #: that the poller claims from
_GROWTH: Final = (100_000, 5_000_000)  #: whole chunks of `growth.fill`

Numbers = dict[str, float]


class Bench(NamedTuple):
    """What probes share."""

    databases: database.Databases
    directory: Path
    seconds: float
    single: callbacks.Callbacks  #: one status a request
    batches: callbacks.Callbacks  #: a hundred
    callbacks: int  #: for the memory of a worker
    progress: Callable[[str], None]


Probe = Callable[[Bench], Numbers]

#: Of figures that are compared by turns: an odd number, so that one is in the middle.
_PAIRS: Final = 15


# Callbacks over HTTP --------------------------------------------------------------------------------------------------


def _hook(
    bench: Bench,
    server: servers.Server,
    url: str,
    connections: int,
    *,
    alone: bool = False,
    batches: bool = False,
) -> Numbers:
    """Send callbacks after a second to warm up; `alone` also times a single caller.

    64 bodies of 100 statuses may be more than a slow machine writes within the time a request may wait: some are then
    refused, as they should be, and do not count.
    """
    file = bench.batches if batches else bench.single
    sender, found = load.Sender(server.url, file), Numbers()
    if alone:
        sender.send(1, 1)
        found["alone_p50_ms"] = sender.send(1, max(1, bench.seconds / 2)).p50_ms
    sender.send(connections, 1, strict=not batches)
    web, postgres = server.cpu_seconds(), database.cpu_seconds(url)
    sample = sender.send(connections, bench.seconds, strict=not batches)
    recorded = (sample.requests - sample.not_2xx) * file.statuses
    return found | {
        "rate": recorded / sample.seconds,
        "refused": float(sample.not_2xx),
        "p50_ms": sample.p50_ms,
        "p99_ms": sample.p99_ms,
        "web_us": (server.cpu_seconds() - web) / recorded * 1e6,
        "postgres_us": (database.cpu_seconds(url) - postgres) / recorded * 1e6,
        "sent": float(sender.acknowledged * file.statuses),
    }


def ledger(workers: int, connections: int) -> Probe:
    def probe(bench: Bench) -> Numbers:
        with bench.databases.ledger() as url, servers.ledger(url, bench.directory, workers=workers) as server:
            return _recorded(url, _hook(bench, server, url, connections, alone=workers == 1))

    return probe


def ledger_batches(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, servers.ledger(url, bench.directory) as server:
        return _recorded(url, _hook(bench, server, url, 64, batches=True))


def ten_providers(bench: Bench) -> Numbers:
    """Send requests of ten providers, of one of them alone, and of the same ten one after another, by turns to one
    server; of all rounds, return the one in the middle. Requests are signed right before: most are good for some
    minutes only.
    """
    each = max(1, round(bench.seconds / 4))
    enough = round(12_000 * each * (_PAIRS + 1))
    files = {
        "mixed": mixed.write(bench.directory / "mixed", enough),
        "alone": mixed.write(bench.directory / "alone", enough, mixed.ALONE, first=enough),
        "in_runs": mixed.write(bench.directory / "in_runs", enough, first=2 * enough, in_runs=True),
    }
    with bench.databases.ledger() as url, servers.ledger(url, bench.directory) as server:
        senders = {name: load.Sender(server.url, file) for name, file in files.items()}
        rounds = [_by_turns(server, senders, each, number) for number in range(_PAIRS + 1)][1:]
        sent = sum(sender.acknowledged for sender in senders.values())
        _recorded(url, {"sent": float(sent)})
    alone, in_runs = (_middle(rounds, f"{other}_rate") for other in ("alone", "in_runs"))
    return alone | {"mixed_again_rate": in_runs["mixed_rate"], "in_runs_rate": in_runs["in_runs_rate"]}


def _middle(rounds: Sequence[Numbers], other: str) -> Numbers:
    return sorted(rounds, key=lambda found: found["mixed_rate"] / found[other])[len(rounds) // 2]


def _by_turns(server: servers.Server, senders: Mapping[str, load.Sender], seconds: float, number: int) -> Numbers:
    """Send with each sender, another one first every time."""
    found = Numbers()
    names = deque(senders)
    names.rotate(number)
    for name in names:
        before = server.cpu_seconds()
        sample = senders[name].send(64, seconds)
        found[f"{name}_rate"] = sample.rate
        found[f"{name}_web_us"] = (server.cpu_seconds() - before) / sample.requests * 1e6
    return found


def _recorded(url: str, found: Numbers) -> Numbers:
    """Check that everything that was acknowledged is on record."""
    recorded = database.value(url, "SELECT count(*) FROM events")
    if recorded < found["sent"]:
        raise load.LoadFailed(f"{found['sent']:.0f} statuses were acknowledged and {recorded} are on record")
    return found | {"recorded": float(recorded)}


def ledger_followed(bench: Bench) -> Numbers:
    """Take callbacks while the same process keeps every read model, and see how far those lag behind."""
    with (
        bench.databases.ledger() as url,
        servers.ledger(url, bench.directory, role="all") as server,
        units.parts(url, bench.directory) as built,
        ThreadPoolExecutor(1) as pool,
    ):
        lags = pool.submit(lambda: list(following.lags(built, time.perf_counter() + bench.seconds + 1)))
        found = _recorded(url, _hook(bench, server, url, 64))
        seen = sorted(lags.result())
        return found | {"lag_p99_seconds": seen[int(len(seen) * 0.99)] if seen else 0.0, "looks": float(len(seen))}


def no_storage(bench: Bench) -> Numbers:
    module = "scripts.bench_peers.no_storage"
    with bench.databases.ledger() as url, servers.ledger(url, bench.directory, module=module) as server:
        return _hook(bench, server, url, 64)


def peer(name: str, workers: int, connections: int, *, alone: bool = False) -> Probe:
    def probe(bench: Bench) -> Numbers:
        with bench.databases.empty() as url, servers.peer(name, url, bench.directory, workers=workers) as server:
            return _hook(bench, server, url, connections, alone=alone)

    return probe


# Reads over HTTP ------------------------------------------------------------------------------------------------------


def reads(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url:
        with units.parts(url, bench.directory) as built:
            growth.fill(built, _READ_EVENTS)
            _, secret = built.keys.create(callbacks.ACCOUNT, Channel.WHATSAPP, Style.UNIFIED)
            with built.ledger.reading() as cursor:
                cursor.execute("SELECT message_id FROM current_status")
                paths = [f"/v1/messages/{message_id}" for (message_id,) in cursor]
        database.execute(url, "VACUUM ANALYZE")
        with servers.ledger(url, bench.directory) as server:
            return _reads(bench, server, url, paths, f"X-Octopods-Auth: {secret}")


def select(bench: Bench) -> Numbers:
    paths = [f"/messages/{number}" for number in range(1, select_one.ROWS + 1)]
    with bench.databases.empty() as url, servers.peer("select_one", url, bench.directory) as server:
        return _reads(bench, server, url, paths)


def _reads(bench: Bench, server: servers.Server, url: str, paths: list[str], header: str = "") -> Numbers:
    file = bench.directory / "paths"
    file.write_text("\n".join(paths) + "\n")
    load.get(server.url, file, 64, 1, header)
    web, postgres = server.cpu_seconds(), database.cpu_seconds(url)
    sample = load.get(server.url, file, 64, bench.seconds, header)
    return {
        "rate": sample.rate,
        "p50_ms": sample.p50_ms,
        "p99_ms": sample.p99_ms,
        "web_us": (server.cpu_seconds() - web) / sample.requests * 1e6,
        "postgres_us": (database.cpu_seconds(url) - postgres) / sample.requests * 1e6,
    }


# The write path alone -------------------------------------------------------------------------------------------------


def unit(batch: int) -> Probe:
    def probe(bench: Bench) -> Numbers:
        with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
            pace = units.loop(built, _jobs(bench, built), batch, bench.seconds)
            return {"rate": pace.per_second, "batch_p50_ms": pace.batch_ms}

    return probe


def bare_unit(batch: int) -> Probe:
    def probe(bench: Bench) -> Numbers:
        with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
            ledger = bare.BareLedger(url, names=built.names, master_key=built.ledger.master_key)
            try:
                pace = units.loop(built, _jobs(bench, built), batch, bench.seconds, ledger)
            finally:
                ledger.close()
            return {"rate": pace.per_second, "batch_p50_ms": pace.batch_ms}

    return probe


def concurrent(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
        return {"rate": units.concurrent(built, _jobs(bench, built), _CALLERS, bench.seconds)}


def _jobs(bench: Bench, built: units.Parts) -> deque[units.Job]:
    return units.jobs(built, callbacks.bodies(round(_JOBS_A_SECOND * bench.seconds)))


def umadb(bench: Bench) -> Numbers:
    told = callbacks.statuses(round(_JOBS_A_SECOND * bench.seconds))
    items = deque((f"observation-{number}", status.encode()) for number, status in enumerate(told))
    with uma.server(bench.directory) as url:
        return {"rate": uma.concurrent(url, items, _CALLERS, bench.seconds)}


def single_rows(bench: Bench) -> Numbers:
    with bench.databases.empty() as url:
        return {"rate": raw.single_rows(url, bench.directory, STATE_BYTES, bench.seconds)}


def array_rows(bench: Bench) -> Numbers:
    with bench.databases.empty() as url:
        return {"rate": raw.array_rows(url, STATE_BYTES, bench.seconds)}


# Read models ----------------------------------------------------------------------------------------------------------


def read_models(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
        growth.fill(built, _FOLLOWED_EVENTS)
        return {
            "follow": following.follow(built, [statuses.Statuses()]),
            "follow_all": following.follow(built, PROJECTIONS),
            "rebuild": following.rebuilt(built, url, bench.directory, _PROCESSES, statuses.Statuses()),
            "rebuild_reports": following.rebuilt(built, url, bench.directory, _PROCESSES, Reports()),
        }


def stock_runner(bench: Bench) -> Numbers:
    told = [hook.statuses(body)[0] for body in callbacks.bodies(_RUNNER_EVENTS)]
    with bench.databases.empty() as url:
        return {"rate": runner.run(url, told)}


def report_queries(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
        following.fill_aggregates(built)
        found = following.ask(built)
        return found | {"slowest_ms": max(found.values())}


# Once a run -----------------------------------------------------------------------------------------------------------


def vacuum_stall(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
        return _stall(vacuum.ledger(built, url))


def vacuum_stall_stock(bench: Bench) -> Numbers:
    with bench.databases.empty() as url:
        return _stall(vacuum.stock_library(url))


def _stall(stall: vacuum.Stall) -> Numbers:
    return {name: float(number) for name, number in stall._asdict().items()}


def size(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory, evidence="digest") as built:
        return growth.bytes_an_event(built, url, _SIZE_EVENTS)


def size_full(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory, evidence="full") as built:
        return growth.bytes_an_event(built, url, _SIZE_EVENTS)


def chain(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory, evidence="digest") as built:
        return dict(evidence.chain(built, url, bench.seconds)._asdict())


def verify(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory, evidence="digest") as built:
        return dict(evidence.verify(built, url, bench.directory, bench.progress)._asdict())


def erase(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
        return {"seconds": evidence.erase(built)}


def append_growth(bench: Bench) -> Numbers:
    small, large = _GROWTH
    with bench.databases.ledger() as url, units.parts(url, bench.directory, evidence="digest") as built:
        found = growth.appends(built, url, _GROWTH, bench.progress)
        return {
            "new_small_ms": found[small].new,
            "new_large_ms": found[large].new,
            "existing_small_ms": found[small].existing,
            "existing_large_ms": found[large].existing,
        }


def memory(bench: Bench) -> Numbers:
    sizes = (bench.callbacks // 10, bench.callbacks)
    with bench.databases.ledger() as url, servers.ledger(url, bench.directory) as server:
        small, large = growth.memory(server, url, bench.directory, sizes, bench.progress).values()
        return {"small_bytes": small, "large_bytes": large}


def too_much(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, servers.ledger(url, bench.directory) as server:
        found = overload.run(server, url, bench.batches, max(5, bench.seconds))
    told = {name: float(getattr(found, name)) for name in found.__struct_fields__}
    if found.others or found.unannounced:
        raise load.LoadFailed(f"refused without Retry-After: {found.unannounced}, other answers: {found.others}")
    return told


def poll_rate(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
        return dict(polling.questions(built, url)._asdict())


def poll_claims(bench: Bench) -> Numbers:
    with bench.databases.ledger() as url, units.parts(url, bench.directory) as built:
        told = polling.claims(built, url, _OPEN_MESSAGES)
        return {name: float(number) for name, number in told._asdict().items()}


@contextmanager
def prepared(
    databases: database.Databases, directory: Path, *, seconds: float, size: int, progress: Callable[[str], None]
) -> Iterator[Bench]:
    """Yield a bench with its files of callbacks written: more than any server here takes in the time it is given."""
    progress("writing signed callbacks")
    single = callbacks.write(directory / "single", round(_CALLBACKS_A_SECOND * (seconds + 2)))
    batches = callbacks.write(directory / "batches", round(400 * (seconds * 4 + 4)), 100)
    yield Bench(databases, directory, seconds, single, batches, size, progress)


PROBES: Final[dict[str, Probe]] = {
    "ledger_1": ledger(1, 64),
    "stock_1": peer("stock", 1, 64, alone=True),
    "ledger_followed": ledger_followed,
    "no_storage": no_storage,
    "upsert": peer("upsert", 1, 64),
    "hello": peer("hello", 1, 64),
    "ten_providers": ten_providers,
    "ledger_2": ledger(2, 256),
    "stock_2": peer("stock", 2, 256),
    "batches": ledger_batches,
    "array_rows": array_rows,
    "unit_32": unit(32),
    "bare_32": bare_unit(32),
    "unit_128": unit(128),
    "bare_128": bare_unit(128),
    "single_rows": single_rows,
    "concurrent": concurrent,
    "umadb": umadb,
    "reads": reads,
    "select": select,
    "read_models": read_models,
    "stock_runner": stock_runner,
    "report_queries": report_queries,
    "vacuum": vacuum_stall,
    "vacuum_stock": vacuum_stall_stock,
    "size": size,
    "size_full": size_full,
    "overload": too_much,
    "chain": chain,
    "verify": verify,
    "erase": erase,
    "growth": append_growth,
    "memory": memory,
    "poll_rate": poll_rate,
    "poll_claims": poll_claims,
}
#: Measured once however many rounds there are.
ONCE: Final = frozenset(
    {
        "report_queries",
        "vacuum",
        "vacuum_stock",
        "size",
        "size_full",
        "overload",
        "verify",
        "erase",
        "growth",
        "memory",
        "poll_rate",
        "poll_claims",
    }
)

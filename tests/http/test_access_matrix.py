"""Who may ask for what: every route by everybody by their own, another's, an absent and a malformed id (A3).

`access_table` says the status of every cell. A route of the running application without a row there fails the test.
Whatever an asker may not see must be answered exactly like what does not exist, and leave no trace.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ledger import main
from ledger.http.webhooks import PATH
from tests.http.access_table import ABSENT, COMPAT, KEY, KEYS, ROWS, SEES, Asker, Row, Thing
from tests.http.access_world import Answer, World, a_world
from tests.plugins.service import Starter

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
WITH_IDS = [row for row in ROWS if row.names]
WITH_KEYS = [row for row in ROWS if row.gate in (KEY, COMPAT)]


@pytest.fixture(scope="module")
def world(start_module_service: Starter, new_database: Callable[[], str]) -> Iterator[World]:
    with a_world(start_module_service, new_database()) as world:
        yield world
        assert "request_failed" not in world.service.log()


def test_every_route_that_is_served_has_a_row(world: World) -> None:
    routed: Any = main.application(world.service.parts)._routed
    served = {
        (method, route.path.replace("{channel:channel}", "{channel}"))
        for route in routed.router.routes
        for method in (route.methods or {"GET"}) - {"HEAD"}
    }

    assert served | {("POST", f"{PATH}{{account}}")} == {(row.method, row.path) for row in ROWS}
    assert len(ROWS) == len({(row.method, row.path) for row in ROWS})


def things(row: Row) -> list[Thing]:
    return list(Thing) if row.names else [Thing.ABSENT]


def is_let_through(row: Row, asker: Asker, thing: Thing) -> bool:
    return asker in row.gate.admits and (row.names is None or thing in SEES.get(asker, ()))


@each_row
def test_whoever_may_not_is_answered_as_the_table_says_and_leaves_no_trace(world: World, row: Row) -> None:
    for thing in things(row):
        world.place(row, thing)
    before = world.recorded()

    answers = refusals(world, row, Asker)

    assert unlike_the_table(row, answers) == {}
    assert before == world.recorded()
    for asker in Asker:
        assert_alike(row, asker, {thing: answer for (other, thing), answer in answers.items() if other is asker})
    if row in WITH_KEYS:
        assert answers[Asker.WRONG_KEY, Thing.ABSENT] == answers[Asker.NEARLY_KEY, Thing.ABSENT]


def refusals(world: World, row: Row, askers: Iterable[Asker]) -> dict[tuple[Asker, Thing], Answer]:
    """Ask for everything that an asker may not have."""
    return {
        (asker, thing): world.ask(asker, row, thing)
        for asker in askers
        for thing in things(row)
        if not is_let_through(row, asker, thing)
    }


def unlike_the_table(row: Row, answers: Mapping[tuple[Asker, Thing], Answer]) -> dict[tuple[Asker, Thing], int]:
    """Return the answers that have another status than they should."""
    return {cell: answer.status for cell, answer in answers.items() if answer.status != row.expected(*cell)}


def assert_alike(row: Row, asker: Asker, answers: dict[Thing, Answer]) -> None:
    """What an asker may not see is what does not exist; who is refused learns nothing even from a malformed id."""
    if asker in row.gate.admits:
        answers.pop(Thing.MALFORMED, None)
    assert len(set(map(repr, answers.values()))) <= 1, (asker, answers)


@each_row
def test_whoever_may_is_answered(world: World, row: Row) -> None:
    """The other half of the matrix: without it, refusing everybody would pass."""
    for asker in row.gate.admits:
        for thing in [thing for thing in things(row) if is_let_through(row, asker, thing)]:
            answer = world.ask(asker, row, thing)
            world.spend(row, thing)

            assert answer.status == row.seen, (asker, thing, answer)


def test_the_table_lets_somebody_through_wherever_there_is_an_id() -> None:
    for row in WITH_IDS:
        cells = [row.expected(asker, thing) for asker in row.gate.admits for thing in Thing]
        assert {row.seen, ABSENT} <= set(cells), row


def test_a_delivery_to_another_endpoint_is_none_to_ones_own(world: World) -> None:
    (row, *_) = [row for row in ROWS if row.names == "delivery"]
    mine, theirs = world.place(row, Thing.OWNERS), world.place(row, Thing.STRANGERS)

    answer = world.owner(Thing.OWNERS).get(row.path.format(**mine | {"delivery_id": theirs["delivery_id"]}))

    assert (answer.status_code, answer.json()["code"]) == (ABSENT, "not_found")


@pytest.mark.parametrize("row", [row for row in ROWS if row.method == "GET"], ids=lambda row: row.path)
def test_a_head_says_what_a_get_says_and_nothing_of_it(world: World, row: Row) -> None:
    for asker in (Asker.NOBODY, Asker.REVOKED_KEY, Asker.CHANNEL_KEY, Asker.OWNER_KEY, Asker.VIEWER):
        for thing in things(row):
            answer = world.ask(asker, row, thing, "HEAD")

            assert (answer.status, answer.body) == (row.expected(asker, thing), ""), (asker, thing)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_methods_that_no_route_has_tell_nothing(world: World, method: str) -> None:
    used = {path: {row.method for row in ROWS if row.path == path} for path in {row.path for row in ROWS}}
    for row in [row for row in ROWS if method not in used[row.path]]:
        answers = [
            world.ask(asker, row, thing, method)
            for asker in (Asker.NOBODY, Asker.STRANGER_KEY, Asker.OWNER_KEY, Asker.OPERATOR)
            for thing in things(row)
        ]

        assert {answer.status for answer in answers} == {405}, row.path
        assert len({answer.body for answer in answers}) == 1, row.path


PLANTED = Path(__file__).parent / "planted"


def test_a_service_that_does_not_look_at_the_account_is_found(start_service: Starter, database_url: str) -> None:
    with a_world(start_service, database_url, sessions=False, planted=PLANTED) as world:
        found = {
            (row.method, row.path): unlike_the_table(row, refusals(world, row, KEYS))
            for row in ROWS
            if row.names == "message" and row.gate is KEY
        }

    reading = found["GET", "/v1/messages/{message_id}"]
    assert (reading[Asker.STRANGER_KEY, Thing.OWNERS], reading[Asker.OWNER_KEY, Thing.STRANGERS]) == (200, 200)
    assert {cell[0] for cells in found.values() for cell in cells} <= {
        Asker.STRANGER_KEY,
        Asker.OWNER_KEY,
        Asker.CHANNEL_KEY,
    }


# The rate limit -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(start_module_service: Starter, new_database: Callable[[], str]) -> Iterator[World]:
    """Three hundred requests a day: enough to make what there is to ask for."""
    with a_world(start_module_service, new_database(), sessions=False, rate_limit="300/86400") as world:
        yield world


def test_the_limit_of_a_key_holds_on_every_route_that_needs_one_and_on_no_other(limited: World) -> None:
    for row in WITH_IDS:
        limited.place(row, Thing.OWNERS)
    exhaust(limited)

    for row in WITH_KEYS:
        answer = limited.ask(Asker.OWNER_KEY, row, Thing.OWNERS)
        assert answer.status == 429, row
        assert int(answer.headers["retry-after"]) > 0
        for other in {*KEYS} - {Asker.OWNER_KEY}:
            assert limited.ask(other, row, Thing.OWNERS).status == row.expected(other, Thing.OWNERS), (row, other)
    for row in [row for row in ROWS if row not in WITH_KEYS and Asker.OWNER_KEY in row.gate.admits]:
        assert limited.ask(Asker.OWNER_KEY, row, Thing.OWNERS).status == row.seen


def exhaust(world: World) -> None:
    """Use up what the owner's key may ask."""
    client = world.owner(Thing.OWNERS)
    while client.get("/v1/attention").status_code != 429:
        pass

"""Lists of messages: every filter alone and with others, page by page, against the same question asked of Python."""

from collections.abc import Callable, Iterator
from datetime import datetime
from random import Random
from typing import Any, Final, NamedTuple

import msgspec
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from ledger.domain.reading import last_updated, time_of
from ledger.domain.status import Channel, Conflict, FailureKind, Outcome, Status
from ledger.ingest.register import LocalFailure
from ledger.ingest.writer import Job
from ledger.store.application import Ledger
from projections import current_status
from projections.current_status import CLOCKS, CurrentStatus, Filters, Opened
from tests.builders import NAMES, a_claim, at, correct_command
from tests.plugins.ledger import MASTER_KEY, Shape, steady, write_at_once
from tests.plugins.postgres import on_database
from tests.statements import Statement, a_registration, a_sender, registered, says, stream_of

ACCOUNTS: Final = ("account-1", "account-2")
CHANNELS: Final = (Channel.SMS, Channel.WHATSAPP)
PROVIDERS: Final = ("meta", "twilio")
RECIPIENTS: Final = ("+15550100", "+15550101", "+15550102")
REFERENCES: Final = ("order-1", "order-2", None)
#: What the provider called a message that went to a group: several messages share it.
GROUP: Final = "group-wamid"


class World(NamedTuple):
    """A ledger full of messages, and all of them as readers get them."""

    ledger: Ledger
    messages: CurrentStatus
    all: list[Opened]


def tell_world(ledger: Ledger) -> None:
    """Record messages of every kind, several of them opened by one append and so at one time."""
    chance = Random(7)
    for n in range(60):
        account, channel = chance.choice(ACCOUNTS), chance.choice(CHANNELS)
        reference = f"message-{n}"
        said: dict[str, Any] = {
            "account": account,
            "channel": channel,
            "provider": chance.choice(PROVIDERS),
            "recipient": chance.choice(RECIPIENTS),
            "client_reference": chance.choice(REFERENCES),
            "reference": reference,
            "provider_message_id": chance.choice([reference, reference, GROUP]),
        }
        claims = chance.sample([*Status, Status.FAILED], chance.randint(1, 4))
        statements = [_claimed(status, minute, said, chance) for minute, status in enumerate(claims, start=n % 5)]
        jobs = [Job(statements)]
        if n % 5 == 0:  # two messages of one transaction
            jobs.append(Job([says(Status.SENT, n, **(said | {"reference": f"twin-{n}"}))]))
        write_at_once(ledger, jobs)
        _settle(ledger, stream_of(reference, account), chance)
    for n in range(12):
        _register(ledger, n, chance)


def _claimed(status: Status, minute: int, said: dict[str, Any], chance: Random) -> Statement:
    if status is not Status.FAILED:
        return says(status, minute, **said)
    claim = a_claim(status, chance.choice([*FailureKind]))
    return says(claim, minute, error_code=chance.choice([None, "131026", "30007", "999"]), **said)


def _settle(ledger: Ledger, stream_id: Any, chance: Random) -> None:
    (loaded,) = ledger.load([stream_id])
    if loaded.message.conflict is Conflict.OPEN and chance.random() < 0.5:
        write_at_once(ledger, [Job([Statement(stream_id, correct_command(Outcome.DELIVERED))])])


def _register(ledger: Ledger, n: int, chance: Random) -> None:
    """Register messages; hand most of them off, to streams that callbacks have opened or not."""
    account = chance.choice(ACCOUNTS)
    registration = a_registration(client_reference=chance.choice(REFERENCES), recipient=chance.choice(RECIPIENTS))
    job, own = registered(bytes([n]) * 16, registration, account)
    write_at_once(ledger, [job])
    provider_id = f"handed-off-{n}"
    if n % 3 == 0:
        write_at_once(ledger, [a_sender(account).fail(own, Channel.SMS, LocalFailure("no route"), at(1))])
        return
    if n % 3 == 1:
        write_at_once(ledger, [Job([says(Status.DELIVERED, 1, reference=provider_id, account=account)])])
    (row,) = ledger.load([own])
    told = a_registration(provider_message_id=provider_id)
    opened = CurrentStatus(ledger).of_stream(row.stream_id)
    assert opened is not None
    write_at_once(ledger, [a_sender(account).hand_off(own, opened.message_id, told, at(2))[0]])


def everything(ledger: Ledger) -> list[Opened]:
    """Read every message that speaks for itself, one by one."""
    messages = CurrentStatus(ledger)
    with ledger.reading() as cursor:
        streams = [row[0] for row in cursor.execute("SELECT DISTINCT stream_id FROM events")]
    opened = [found for stream_id in streams if (found := messages.of_stream(stream_id)) is not None]
    return [each for each in opened if each.message.linked_to is None]


@pytest.fixture(scope="module", params=[Shape(1), Shape(4)], ids=str)
def world(request: pytest.FixtureRequest, postgres_url: str, shape_template: Callable[[Shape], str]) -> Iterator[World]:
    """The same world over one partition and over several. Nobody writes to it any more."""
    shape, name = request.param, f"world_{request.param}".lower()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(statement.format(sql.Identifier(name), sql.Identifier(shape_template(shape))))
    url = on_database(postgres_url, name)
    ledger = Ledger(url, partitions=shape.partitions, names=NAMES, master_key=MASTER_KEY, pool_size=2)
    tell_world(steady(ledger))
    yield World(ledger, CurrentStatus(ledger), everything(ledger))
    ledger.close()


# The same question, asked of Python -----------------------------------------------------------------------------------


def clock_of(opened: Opened, filters: Filters) -> datetime | None:
    message, column = opened.message, filters.clock.column
    if column == "opened_at":
        return opened.opened_at
    if column == "last_updated":
        return last_updated(message)
    instant = time_of(message, Status[column.removesuffix("_at").upper()])
    return instant.at if instant else None


def fits(opened: Opened, filters: Filters) -> bool:
    message, person = opened.message, opened.message.person
    reason = current_status.reason(message)
    told_at = clock_of(opened, filters)
    return all(
        (
            message.account == filters.account,
            message.channel.value == filters.channel,
            not filters.status or message.status.value in filters.status,
            filters.provider in (None, message.provider),
            filters.provider_message_id in (None, person.provider_message_id),
            filters.client_reference in (None, person.client_reference),
            filters.recipient in (None, person.recipient),
            filters.failure_category in (None, reason.category.value if reason else "none"),
            filters.conflict in (None, message.conflict),
            filters.since is None or (told_at is not None and told_at >= filters.since),
            filters.until is None or (told_at is not None and told_at < filters.until),
        )
    )


def expected(world: World, filters: Filters) -> list[Opened]:
    fitting = [opened for opened in world.all if fits(opened, filters)]
    return sorted(fitting, key=lambda opened: (opened.opened_at, opened.message_id), reverse=True)


def ids(found: list[Opened]) -> list[int]:
    return [opened.message_id for opened in found]


def pages(world: World, filters: Filters, limits: list[int]) -> list[list[Opened]]:
    """Read page after page, each as long as the next limit says, until one is empty."""
    found: list[list[Opened]] = []
    before = None
    while not found or found[-1]:
        limit = limits[len(found) % len(limits)]
        found.append(world.messages.newest(filters, before=before, limit=limit))
        assert len(found[-1]) <= limit
        if found[-1]:
            before = (found[-1][-1].opened_at, found[-1][-1].message_id)
    return found


# Every filter ---------------------------------------------------------------------------------------------------------

_instants = st.integers(-1, 8).map(at)
#: Values of each filter: some that fit, some that fit nothing.
VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "status": st.lists(st.sampled_from([status.value for status in Status]), min_size=1, max_size=3).map(tuple),
    "provider": st.sampled_from([*PROVIDERS, "provider-1", "viber"]),
    "provider_message_id": st.sampled_from(["message-1", "message-2", "handed-off-1", "handed-off-2", GROUP, "none"]),
    "client_reference": st.sampled_from(["order-1", "order-2", "order-9"]),
    "recipient": st.sampled_from([*RECIPIENTS, "+19"]),
    "failure_category": st.sampled_from(["recipient", "unknown", "content", "network"]),
    "conflict": st.sampled_from(Conflict),
    "since": _instants,
    "until": _instants,
}
_clocks = st.sampled_from([name for name in CLOCKS if name != "opened_at"]).map(CLOCKS.__getitem__)


def some_filters(*names: str) -> st.SearchStrategy[Filters]:
    """Draw a key's account and channel, these filters, and a clock where one matters."""
    told = {name: VALUES[name] for name in names}
    return st.builds(
        Filters,
        account=st.sampled_from(ACCOUNTS),
        channel=st.sampled_from([channel.value for channel in CHANNELS]),
        clock=_clocks,
        **told,
    )


combined = st.sets(st.sampled_from(sorted(VALUES)), min_size=0, max_size=4).flatmap(lambda names: some_filters(*names))


def test_every_filter_is_tested() -> None:
    assert {*VALUES, "account", "channel", "clock"} == set(Filters.__struct_fields__)


def test_a_key_lists_the_messages_of_its_account_and_channel_newest_first(world: World) -> None:
    listed = {
        (account, channel.value): ids(
            world.messages.newest(Filters(account=account, channel=channel.value), before=None, limit=1_000)
        )
        for account in ACCOUNTS
        for channel in CHANNELS
    }

    assert all(listed.values())
    assert listed == {key: ids(expected(world, Filters(account=key[0], channel=key[1]))) for key in listed}
    assert sum(map(len, listed.values())) == len(world.all)


@pytest.mark.parametrize("name", sorted(VALUES))
@given(data=st.data())
def test_a_filter_alone_finds_what_fits(world: World, name: str, data: st.DataObject) -> None:
    filters = data.draw(some_filters(name))

    found = world.messages.newest(filters, before=None, limit=1_000)

    assert ids(found) == ids(expected(world, filters))


@pytest.mark.parametrize("name", sorted(VALUES))
def test_every_filter_finds_something_and_not_everything(world: World, name: str) -> None:
    """Otherwise the property above would hold for a filter that does nothing."""
    all_filters = [Filters(account=account, channel=channel.value) for account in ACCOUNTS for channel in CHANNELS]
    kinds = {
        "status": ("SENT",), "provider": "meta", "provider_message_id": GROUP, "client_reference": "order-1",
        "recipient": RECIPIENTS[0], "failure_category": "recipient", "conflict": Conflict.OPEN, "since": at(2),
        "until": at(2),
    }  # fmt: skip
    clock = CLOCKS["last_updated"]

    found = [
        len(
            world.messages.newest(
                msgspec.structs.replace(f, clock=clock, **{name: kinds[name]}), before=None, limit=999
            )
        )
        for f in all_filters
    ]

    assert 0 < sum(found) < len(world.all)


@given(filters=combined)
def test_filters_together_find_what_fits_all_of_them(world: World, filters: Filters) -> None:
    found = world.messages.newest(filters, before=None, limit=1_000)

    assert ids(found) == ids(expected(world, filters))


@given(filters=combined, limits=st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_pages_put_together_are_the_list(world: World, filters: Filters, limits: list[int]) -> None:
    """Whatever their sizes, without loss or repetition, also between messages that were opened at the same time."""
    found = [opened for page in pages(world, filters, limits) for opened in page]

    assert found == expected(world, filters)


@pytest.mark.parametrize("clock", sorted(CLOCKS))
def test_a_time_range_includes_its_start_and_not_its_end(world: World, clock: str) -> None:
    filters = Filters(account="account-1", channel="sms", clock=CLOCKS[clock])
    times = sorted({told for opened in expected(world, filters) if (told := clock_of(opened, filters)) is not None})
    start, end = times[0], times[-1]

    found = world.messages.newest(msgspec.structs.replace(filters, since=start, until=end), before=None, limit=1_000)

    assert {clock_of(opened, filters) for opened in found} == {*times} - {end}
    assert start < end


# Linked messages ------------------------------------------------------------------------------------------------------


def test_a_linked_message_is_listed_once_under_the_id_its_sender_knows(world: World) -> None:
    linked = [opened for opened in world.all if opened.message.aliases]
    assert len(linked) == 8

    for opened in linked:
        filters = Filters(
            account=opened.message.account,
            channel=opened.message.channel.value,
            provider_message_id=opened.message.person.provider_message_id,
        )
        (found,) = world.messages.newest(filters, before=None, limit=10)
        assert found == opened
        assert found.shown_id == opened.message.aliases[0]
        assert world.messages.get(found.shown_id) == world.messages.get(found.message_id) == opened


def test_no_id_that_is_listed_is_listed_twice(world: World) -> None:
    shown = [opened.shown_id for opened in world.all]

    assert len(shown) == len(set(shown))


def test_messages_that_came_later_do_not_shift_the_pages(ledger: Ledger) -> None:
    filters, messages = Filters(account="account-1", channel="sms"), CurrentStatus(ledger)
    for n in range(6):
        write_at_once(ledger, [Job([says(Status.SENT, n, reference=f"message-{n}")])])
    first = messages.newest(filters, before=None, limit=3)

    for n in range(6, 9):
        write_at_once(ledger, [Job([says(Status.SENT, n, reference=f"message-{n}")])])
    write_at_once(ledger, [Job([says(Status.READ, 9, reference="message-0")])])

    second = messages.newest(filters, before=(first[-1].opened_at, first[-1].message_id), limit=10)
    told = [opened.message.person.provider_message_id for opened in first + second]
    assert told == [f"message-{n}" for n in (5, 4, 3, 2, 1, 0)]

"""Messages without an outcome about which nothing has been heard for longer than is to be expected.

Silence is shown as age. It never becomes a status: only somebody's statement does.

What is to be expected is told in the configuration (`expected_seconds` of an account), or learned: the time in which
99 % of what this provider delivered on this channel was delivered, in the days before. Where too little was, a default
counts.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from ledger.domain.status import Channel, Status, is_terminal
from projections import latency
from projections.counts import Shape
from projections.facts import Facts
from projections.scope import Scope, View

SHAPE: Final = Shape(
    "silence", ("slot", "account", "channel", "provider", "country", "status", "closed"), ("messages",)
)
SLOT_SECONDS: Final = 300
#: Of those that were delivered, so many were within the time that is learned, of at least so many.
LEARNED_SHARE: Final = 0.99
LEARNED_LEAST: Final = 100
LEARNED_DAYS: Final = 30
#: Where nothing is told or learned.
EXPECTED_SECONDS: Final[Mapping[Channel, int]] = {
    Channel.SMS: 4 * 3_600,
    Channel.WHATSAPP: 24 * 3_600,
    Channel.VIBER: 24 * 3_600,
}
#: Nothing is expected sooner than this, however quick the others were.
EXPECTED_SECONDS_MIN: Final = 60
#: Ages in seconds from which a bucket begins.
AGES: Final[Mapping[str, int]] = {
    "under_1h": 0,
    "1h_to_6h": 3_600,
    "6h_to_24h": 6 * 3_600,
    "1d_to_3d": 24 * 3_600,
    "3d_to_7d": 3 * 24 * 3_600,
    "over_7d": 7 * 24 * 3_600,
}


def is_open(facts: Facts) -> bool:
    return not is_terminal(facts.status)


def slot(facts: Facts) -> datetime | None:
    """Return the five minutes in which a message without an outcome was last heard of; None for others."""
    if is_terminal(facts.status):
        return None
    heard = facts.last_heard_at
    return heard - timedelta(seconds=heard.timestamp() % SLOT_SECONDS)


class Expected(msgspec.Struct, frozen=True):
    seconds: int
    basis: str  #: configured, learned or default


class StuckGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Stuck messages of one provider that were last heard of in the same state, by age in full five minutes."""

    account: str
    channel: str
    provider: str
    status: Status
    closed: bool  #: the provider has said that no further report will come
    expected_seconds: int
    expected_basis: str
    messages: int
    ages: dict[str, int]
    oldest_since: datetime


class StuckMessage(msgspec.Struct, frozen=True, kw_only=True):
    message_id: int
    provider: str
    country: str
    status: Status
    last_heard_at: datetime
    silent_seconds: int
    closed: bool
    reported: bool  #: the provider has said something at least once
    expected_seconds: int


class Stuck(msgspec.Struct, frozen=True, kw_only=True):
    groups: list[StuckGroup]
    oldest: list[StuckMessage]  #: those that have been silent for longest


def query(
    view: View,
    scope: Scope,
    now: datetime,
    configured: Mapping[str, int],
    *,
    limit: int,
    after: tuple[datetime, int] | None = None,
) -> Stuck:
    """Return what is stuck now, and the messages that have been silent for longest, after the given place.

    The range of the scope does not apply. `configured`: seconds by account.
    """
    expected = _Expectations(view, scope, now, configured)
    groups = _groups(view, scope, now, expected)
    return Stuck(groups=groups, oldest=_oldest(view, scope, expected, limit=limit, after=after))


class _Expectations:
    def __init__(self, view: View, scope: Scope, now: datetime, configured: Mapping[str, int]) -> None:
        self.now = now
        before = msgspec.structs.replace(scope, since=now - timedelta(days=LEARNED_DAYS), until=now)
        self._learned = latency.learned(view, before, LEARNED_SHARE, LEARNED_LEAST)
        self._configured = configured

    def of(self, account: str, channel: str, provider: str) -> Expected:
        told = self._configured.get(account)
        if told is not None:
            return Expected(told, "configured")
        learned = self._learned.get((account, channel, provider))
        if learned is not None:
            return Expected(max(EXPECTED_SECONDS_MIN, round(learned)), "learned")
        return Expected(EXPECTED_SECONDS[Channel(channel)], "default")


def _groups(view: View, scope: Scope, now: datetime, expected: _Expectations) -> list[StuckGroup]:
    where, parameters = scope.conditions(None)
    rows = view.rows(
        "SELECT t.account, t.channel, t.provider, t.status, t.closed, t.slot, sum(t.messages)::bigint FROM {silence} t"
        f" WHERE {where} GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6",
        parameters,
    )
    groups: dict[tuple[str, ...], StuckGroup] = {}
    for account, channel, provider, status, closed, since, messages in rows:
        allowed = expected.of(account, channel, provider)
        age = (now - since).total_seconds()
        if age <= allowed.seconds + SLOT_SECONDS:
            continue
        key = (account, channel, provider, status, closed)
        known = groups.get(key)
        if known is None:
            known = groups[key] = StuckGroup(
                account=account,
                channel=channel,
                provider=provider,
                status=Status(status),
                closed=closed == "yes",
                expected_seconds=allowed.seconds,
                expected_basis=allowed.basis,
                messages=0,
                ages=dict.fromkeys(AGES, 0),
                oldest_since=since,
            )
        bucket = [name for name, begin in AGES.items() if age >= begin][-1]
        known.ages[bucket] += messages
        groups[key] = msgspec.structs.replace(known, messages=known.messages + messages)
    return list(groups.values())


def _oldest(
    view: View, scope: Scope, expected: _Expectations, *, limit: int, after: tuple[datetime, int] | None
) -> list[StuckMessage]:
    where, parameters = scope.own("f", "account", "channel", "provider")
    if after is not None:
        where += " AND (f.silent_since, f.message_id) > (%s, %s)"
        parameters += after
    rows = view.rows(
        "SELECT f.message_id, f.state FROM {message_facts} f"
        f" WHERE {where} AND f.silent_since IS NOT NULL"
        " ORDER BY f.silent_since, f.message_id LIMIT %s",
        (*parameters, limit),
    )
    found = []
    for message_id, state in rows:
        facts = msgspec.msgpack.decode(state, type=Facts)
        silent = int((expected.now - facts.last_heard_at).total_seconds())
        allowed = expected.of(facts.account, facts.channel, facts.provider)
        if silent <= allowed.seconds or (scope.country is not None and facts.country != scope.country):
            continue
        found.append(
            StuckMessage(
                message_id=message_id,
                provider=facts.provider,
                country=facts.country,
                status=facts.status,
                last_heard_at=facts.last_heard_at,
                silent_seconds=silent,
                closed=facts.closed,
                reported=facts.reported,
                expected_seconds=allowed.seconds,
            )
        )
    return found

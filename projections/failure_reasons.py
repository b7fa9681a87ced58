"""Why messages fail: counted by reason, with what to do about each.

A failure counts in the hour in which the claim that counts was received. What it is called is the catalogue's doing: a
better catalogue explains history anew when the projection is rebuilt. Errors that keep coming back for one recipient
are that recipient's, and no outage of the provider's; such failures are counted apart in every group.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from ledger.domain.reasons import Category, Stage, recall
from projections import delivery
from projections.counts import Shape
from projections.facts import FailureClass
from projections.scope import Scope, View

SHAPE: Final = Shape(
    "failures",
    ("hour", "account", "channel", "provider", "country", "stage", "category", "code", "title", "recognised"),
    ("failures",),
)
#: So many failed messages make an error of one that belongs to the recipient.
RECURRING_MIN: Final = 3
RECIPIENTS: Final = Shape(
    "recipients",
    ("account", "channel", "recipient"),
    ("failures",),
    (
        f"CREATE INDEX {{recipients}}_recurring ON {{recipients}} (account, channel) WHERE failures >= {RECURRING_MIN}",
        "CREATE INDEX {recipients}_recipient ON {recipients} (recipient)",
    ),
)
#: Of a reason, in its answer.
SAMPLES: Final = 3
NEW_WITHIN: Final = timedelta(days=1)
_OF_SENDERS: Final = frozenset({Category.ACCOUNT, Category.TEMPLATE, Category.CONTENT, Category.RATE_LIMIT})


def is_about_recipients(reason: FailureClass) -> bool:
    """Tell whether a reason, should it recur, speaks of the recipient: the provider said no, and not to us."""
    return reason.stage == Stage.PROVIDER and reason.category not in _OF_SENDERS


class RetryAdvice(msgspec.Struct, frozen=True, kw_only=True):
    class_: str = msgspec.field(name="class")
    after_seconds: int | None
    after_seconds_max: int | None


class FailureGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one reason in one group."""

    group: dict[str, str]
    stage: str
    category: str
    provider: str
    code: str | None
    title: str
    recognised: bool
    failures: int
    share: float | None  #: of the messages of the group's range that anything is known of
    recipient_specific: int  #: of the failures, those of recipients for whom such errors recur; of all groups together
    first_seen: datetime | None  #: ever
    last_seen: datetime | None
    is_new: bool  #: first seen in the last 24 hours
    advice: str
    retry: RetryAdvice
    samples: tuple[int, ...]  #: message ids, newest first


def query(view: View, scope: Scope, now: datetime) -> list[FailureGroup]:
    """Return the reasons of every group, most frequent first within it."""
    counted = view.added(scope, delivery.SHAPE.name, delivery.DAYS.name, ("messages",))
    traffic = {_frozen(group): messages for group, (messages,) in counted}
    columns = ("provider", "stage", "category", "code", "title", "recognised")
    found = list(view.grouped(scope, "failures", "sum(failures)::bigint", columns))
    reasons = {(row[0], row[2], row[3], row[4]) for _, row in found}
    seen = _seen(view, scope, sorted(reasons))
    recurring = _recurring(view, scope)
    groups = []
    for group, (provider, stage, category, code, title, recognised, failures) in found:
        reason = (provider, category, code, title)
        first, last, samples = seen[reason]
        known = recall(provider, code or None, title)
        messages = traffic.get(_frozen(group), 0)
        groups.append(
            FailureGroup(
                group=group,
                stage=stage,
                category=category,
                provider=provider,
                code=code or None,
                title=title,
                recognised=recognised == "yes",
                failures=failures,
                share=round(failures / messages, 6) if messages else None,
                recipient_specific=recurring.get(reason, 0),
                first_seen=first,
                last_seen=last,
                is_new=first is not None and first >= now - NEW_WITHIN,
                advice=known.advice,
                retry=RetryAdvice(
                    class_=known.retry.class_.value,
                    after_seconds=known.retry.after_seconds,
                    after_seconds_max=known.retry.after_seconds_max,
                ),
                samples=tuple(samples),
            )
        )
    return sorted(groups, key=lambda told: (tuple(told.group.values()), -told.failures, told.provider, told.title))


def _frozen(group: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(group.items())


Reason = tuple[str, str, str, str]


def _seen(
    view: View, scope: Scope, reasons: Sequence[Reason]
) -> dict[Reason, tuple[datetime | None, datetime | None, list[int]]]:
    """Return when each reason was first and last seen, and its newest messages in the range. Looks at an index only."""
    where, own = _account(scope)
    same = (
        f"{where} AND f.provider = n.provider AND f.category = n.category AND f.code = n.code AND f.title = n.title"
        " AND f.failed_at IS NOT NULL"
    )
    rows = (
        view.rows(
            "SELECT n.provider, n.category, n.code, n.title,"
            f" (SELECT min(f.failed_at) FROM {{message_facts}} f WHERE {same}),"
            f" (SELECT max(f.failed_at) FROM {{message_facts}} f WHERE {same}),"
            f" ARRAY(SELECT f.message_id FROM {{message_facts}} f WHERE {same} AND f.failed_at < %s"
            f" ORDER BY f.failed_at DESC LIMIT {SAMPLES})"
            " FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS n (provider, category, code, title)",
            (*own, *own, *own, scope.until, *(list(column) for column in zip(*reasons, strict=True))),
        )
        if reasons
        else ()
    )
    return {(row[0], row[1], row[2], row[3]): (row[4], row[5], row[6]) for row in rows}


def _account(scope: Scope, table: str = "f") -> tuple[str, list[Any]]:
    told = {"account": scope.account, "channel": scope.channel}
    conditions = [f"{table}.{name} = %s" for name, value in told.items() if value is not None]
    return " AND ".join(conditions) or "true", [value for value in told.values() if value is not None]


def recurring_recipients(view: View, scope: Scope) -> tuple[str, list[Any]]:
    """Return a query of (account, channel, recipient, failures) for whom errors recur, and its parameters."""
    where, parameters = _account(scope, "r")
    if view.partitions == 1:
        text = (
            f"SELECT account, channel, recipient, failures FROM {{recipients}} r WHERE {where}"
            f" AND failures >= {RECURRING_MIN}"
        )
    else:
        text = (
            f"SELECT account, channel, recipient, sum(failures)::bigint AS failures FROM {{recipients}} r WHERE {where}"
            f" GROUP BY 1, 2, 3 HAVING sum(failures) >= {RECURRING_MIN}"
        )
    return text, parameters


def _recurring(view: View, scope: Scope) -> dict[Reason, int]:
    """Count the range's failures of recipients for whom errors recur, by reason."""
    text, parameters = recurring_recipients(view, scope)
    rows = view.rows(
        f"SELECT f.provider, f.category, f.code, f.title, count(*) FROM ({text}) r"
        " JOIN {message_facts} f ON f.account = r.account AND f.channel = r.channel AND f.recipient = r.recipient"
        " WHERE f.failed_at >= %s AND f.failed_at < %s GROUP BY 1, 2, 3, 4",
        (*parameters, scope.since, scope.until),
    )
    return {(provider, category, code, title): count for provider, category, code, title, count in rows}


def is_recurring(view: View, account: str, channel: str, recipient: bytes) -> bool:
    """Tell whether errors recur for a recipient, given by look-up value."""
    ((failures,),) = view.rows(
        "SELECT coalesce(sum(failures), 0)::bigint FROM {recipients}"
        " WHERE recipient = %s AND account = %s AND channel = %s",
        (recipient, account, channel),
    )
    return bool(failures >= RECURRING_MIN)

"""Why messages fail: counted by reason, with what to do about each.

A failure counts in the hour in which the claim that counts was received. What it is called is the catalogue's doing: a
better catalogue explains history anew when the projection is rebuilt. Errors that keep coming back for one recipient
are that recipient's, and no outage of the provider's; such failures are counted apart in every group.
"""

from collections.abc import Collection, Mapping
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


Reason = tuple[str, str, str, str]  #: provider, category, code, title
#: What failures are counted by, beside the hour: the account and channel, then the reason.
_PLACE: Final = ("account", "channel", "provider", "stage", "category", "code", "title", "recognised")


class _Seen(msgspec.Struct):
    """When a reason was seen, and its newest messages: (time, message id)."""

    first: datetime | None = None
    last: datetime | None = None
    samples: list[tuple[datetime, int]] = []


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
    found: dict[tuple[Any, ...], int] = {}
    places: dict[Reason, set[tuple[str, str]]] = {}
    for group, (account, channel, *told, failures) in view.grouped(scope, SHAPE.name, "sum(failures)::bigint", _PLACE):
        key = (_frozen(group), *told)
        found[key] = found.get(key, 0) + failures
        provider, _, category, code, title, _ = told
        places.setdefault((provider, category, code, title), set()).add((account, channel))
    seen = _seen(view, scope.until, places)
    recurring = _recurring(view, scope)
    groups = []
    for (frozen, provider, stage, category, code, title, recognised), failures in found.items():
        group, reason = dict(frozen), (provider, category, code, title)
        when = seen[reason]
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
                first_seen=when.first,
                last_seen=when.last,
                is_new=when.first is not None and when.first >= now - NEW_WITHIN,
                advice=known.advice,
                retry=RetryAdvice(
                    class_=known.retry.class_.value,
                    after_seconds=known.retry.after_seconds,
                    after_seconds_max=known.retry.after_seconds_max,
                ),
                samples=tuple(message_id for _, message_id in when.samples),
            )
        )
    return sorted(groups, key=lambda told: (tuple(told.group.values()), -told.failures, told.provider, told.title))


class Affected(msgspec.Struct, frozen=True):
    """A failed message of one reason."""

    failed_at: datetime
    message_id: int


def series(view: View, scope: Scope, by: str) -> dict[tuple[str, Reason], dict[str, int]]:
    """Return the failures of every hour or day in which there were any, by channel and reason."""
    found: dict[tuple[str, Reason], dict[str, int]] = {}
    divided = msgspec.structs.replace(scope, group_by=("channel", by))
    columns = ("provider", "category", "code", "title")
    for group, (*told, failures) in view.grouped(divided, SHAPE.name, "sum(failures)::bigint", columns):
        provider, category, code, title = told
        known = found.setdefault((group["channel"], (provider, category, code, title)), {})
        known[group[by]] = known.get(group[by], 0) + failures
    return found


def affected(
    view: View, scope: Scope, reason: Reason, *, limit: int, before: tuple[datetime, int] | None = None
) -> list[Affected]:
    """Return messages of the range that failed for a reason, newest first. The scope names accounts and a channel."""
    where = ""
    parameters: list[Any] = [*reason, scope.channel, scope.since, scope.until]
    if before is not None:
        where = "AND (f.failed_at, f.message_id) < (%s, %s)"
        parameters += before
    rows = view.rows(_AFFECTED.format(where=where), (list(scope.accounts or ()), *parameters, limit, limit))
    return [Affected(failed_at, message_id) for failed_at, message_id in rows]


_AFFECTED: Final = """
SELECT f.failed_at, f.message_id FROM unnest(%s::text[]) AS a (account)
 CROSS JOIN LATERAL (
       SELECT f.failed_at, f.message_id FROM {{message_facts}} f
        WHERE f.account = a.account AND f.provider = %s AND f.category = %s AND f.code = %s AND f.title = %s
          AND f.channel = %s AND f.failed_at >= %s AND f.failed_at < %s {where}
        ORDER BY f.failed_at DESC, f.message_id DESC LIMIT %s) f
 ORDER BY f.failed_at DESC, f.message_id DESC LIMIT %s
"""


def _frozen(group: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(group.items())


def _seen(view: View, until: datetime, places: Mapping[Reason, Collection[tuple[str, str]]]) -> dict[Reason, _Seen]:
    """Return when each reason was first and last seen in its accounts and channels, and its newest messages before
    the end of the range. Looks at an index only.
    """
    named = [(*place, *reason) for reason, of in sorted(places.items()) for place in sorted(of)]
    found: dict[Reason, _Seen] = {}
    if not named:
        return found
    columns = [list(column) for column in zip(*named, strict=True)]
    for provider, category, code, title, first, last, times, messages in view.rows(_SEEN, (until, *columns)):
        known = found.setdefault((provider, category, code, title), _Seen())
        known.first = min(filter(None, (known.first, first)), default=None)
        known.last = max(filter(None, (known.last, last)), default=None)
        known.samples = sorted([*known.samples, *zip(times, messages, strict=True)], reverse=True)[:SAMPLES]
    return found


_SAME: Final = """
f.account = n.account AND f.channel = n.channel AND f.provider = n.provider AND f.category = n.category
AND f.code = n.code AND f.title = n.title AND f.failed_at IS NOT NULL
"""
_SEEN: Final = f"""
SELECT n.provider, n.category, n.code, n.title,
       (SELECT min(f.failed_at) FROM {{message_facts}} f WHERE {_SAME}),
       (SELECT max(f.failed_at) FROM {{message_facts}} f WHERE {_SAME}),
       s.times, s.messages
  FROM (SELECT %s::timestamptz AS until) a
 CROSS JOIN unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
         AS n (account, channel, provider, category, code, title)
 CROSS JOIN LATERAL (
       SELECT coalesce(array_agg(r.failed_at), '{{}}') AS times, coalesce(array_agg(r.message_id), '{{}}') AS messages
         FROM (SELECT f.failed_at, f.message_id FROM {{message_facts}} f WHERE {_SAME} AND f.failed_at < a.until
                ORDER BY f.failed_at DESC LIMIT {SAMPLES}) r) s
"""


def recurring_recipients(view: View, scope: Scope) -> tuple[str, list[Any]]:
    """Return a query of (account, channel, recipient, failures) for whom errors recur, and its parameters."""
    where, parameters = scope.own("r", "account", "channel")
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

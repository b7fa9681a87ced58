"""Failures, grouped by reason: how many, since when, whether it grows, what to do, and the messages concerned."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.reasons import RetryClass, Stage
from ledger.http import queries
from ledger.http.edge import Edge
from ledger.screens import ranges, rendering
from ledger.screens.access import Permission, Viewer
from ledger.screens.charts import spark
from ledger.screens.failure_card import FIXERS, PLACES, when_of
from ledger.screens.ranges import PARAMETERS, RANGE_NAMES, Asked
from ledger.screens.rendering import Visit
from projections.attention import Item
from projections.current_status import CurrentStatus, Opened
from projections.failure_reasons import FailureGroup
from projections.message_search import MessageSearch
from projections.reporting import Made, Reporting

#: What names a reason in an address, beside the channel and the provider.
REASON: Final = ("category", "code", "title")
AFFECTED: Final = 25
#: What no table knows: the inbox of whoever keeps the catalogue.
UNKNOWN_KINDS: Final = ("unrecognised_code", "unrecognised_status")


class Row(NamedTuple):
    """A reason, in one channel."""

    channel: str
    told: FailureGroup
    trend: Mapping[str, int]  #: failures of every hour or day of the range
    spark: Markup
    href: str


class Failures(NamedTuple):
    asked: Asked
    made: Made
    rows: Sequence[Row]
    unknown: Sequence[Item]


class Affected(NamedTuple):
    failures: Failures
    row: Row | None  #: None: nothing of this range failed for the reason
    messages: Sequence[Opened]
    older: str | None


class FailuresPage:
    """Handlers."""

    def __init__(self, *, edge: Edge, reporting: Reporting, search: MessageSearch, messages: CurrentStatus) -> None:
        self._edge = edge
        self._reporting = reporting
        self._search = search
        self._messages = messages

    async def show(self, request: Request) -> Response:
        told = queries.parameters(request, PARAMETERS)
        found = await ranges.answered(self._edge, self._read, rendering.viewer_of(request), rendering.of(request), told)
        return rendering.page(
            request,
            "failures.html",
            asked=found.asked,
            range_names=RANGE_NAMES,
            made=found.made,
            rows=found.rows,
            failures=sum(row.told.failures for row in found.rows),
            unknown=found.unknown,
        )

    async def show_reason(self, request: Request) -> Response:
        told = queries.parameters(request, (*PARAMETERS, *REASON, "cursor"))
        viewer, visit = rendering.viewer_of(request), rendering.of(request)
        found = await ranges.answered(self._edge, self._read_reason, viewer, visit, told)
        asked, row = found.failures.asked, found.row
        retry = row.told.retry if row is not None else None
        return rendering.page(
            request,
            "failure.html",
            asked=asked,
            range_names=RANGE_NAMES,
            made=found.failures.made,
            row=row,
            reason={name: told.get(name, "") for name in REASON},
            place=PLACES[Stage(row.told.stage)] if row else "",
            fixer=FIXERS[RetryClass(retry.class_)] if retry else "",
            again=when_of(RetryClass(retry.class_), retry.after_seconds, retry.after_seconds_max) if retry else "",
            messages=found.messages,
            older=found.older,
        )

    # Reading ----------------------------------------------------------------------------------------------------------

    def _read(self, viewer: Viewer, visit: Visit, told: Mapping[str, str]) -> Failures:
        asked = ranges.read(told, viewer, self._search.scopes(), visit.now)
        made, (groups, series) = self._reporting.failure_series(asked.scope, asked.bucket, visit.now)
        empty = dict.fromkeys(asked.scope.buckets(asked.bucket), 0)
        rows = []
        for group in groups:
            channel = group.group["channel"]
            named = (channel, (group.provider, group.category, group.code or "", group.title))
            trend = empty | series.get(named, {})
            label = f"Failures by {asked.bucket}: {', '.join(map(str, trend.values()))}"
            told_reason = {"category": group.category, "code": group.code or "", "title": group.title}
            href = asked.address("/failures/reason", channel=channel, provider=group.provider, **told_reason)
            rows.append(Row(channel, group, trend, spark([*trend.values()], label), href))
        unknown: list[Item] = []
        if viewer.may(Permission.OPERATIONS):
            found = self._reporting.attention(asked.scope)[1]
            unknown = [placed.item for placed in found if placed.item.kind in UNKNOWN_KINDS]
        return Failures(asked, made, sorted(rows, key=lambda row: -row.told.failures), unknown)

    def _read_reason(self, viewer: Viewer, visit: Visit, told: Mapping[str, str]) -> Affected:
        failures = self._read(viewer, visit, told)
        asked = failures.asked
        category, code, title = (told.get(name, "") for name in REASON)
        row = next(
            (
                row
                for row in failures.rows
                if (row.told.category, row.told.code or "", row.told.title) == (category, code, title)
            ),
            None,
        )
        if row is None:
            return Affected(failures, None, (), None)
        reason = (row.told.provider, category, code, title)
        before = queries.decode_cursor(told)
        scope = msgspec.structs.replace(asked.scope, channel=row.channel)
        _, found = self._reporting.affected(scope, reason, limit=AFFECTED + 1, before=before)
        older = None
        if len(found) > AFFECTED:
            last = found[AFFECTED - 1]
            named = {"category": category, "code": code, "title": title}
            cursor = queries.encode_cursor(last.failed_at, last.message_id)
            older = asked.address("/failures/reason", **named, cursor=cursor)
        opened = self._messages.get_all([each.message_id for each in found[:AFFECTED]])
        return Affected(failures, row, [one for one in opened if viewer.sees(one.message.account, row.channel)], older)

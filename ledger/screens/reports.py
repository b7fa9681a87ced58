"""The numbers: how far messages come, how fast, at which provider, and which are stuck. Each chart has its table."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.http import queries, tables
from ledger.http.edge import Edge
from ledger.http.reports import as_table
from ledger.screens import ranges, rendering
from ledger.screens.access import Viewer
from ledger.screens.charts import bar
from ledger.screens.ranges import PARAMETERS, RANGE_NAMES, Asked
from ledger.screens.rendering import Visit
from projections import latency
from projections.delivery import Funnel
from projections.latency import Latency
from projections.message_search import MessageSearch
from projections.reporting import Made, Reporting
from projections.scope import Scope
from projections.stuck import AGES, StuckGroup

#: What durations are called on the page, and what exactly they are.
MEASURES: Final[Mapping[str, tuple[str, str]]] = {
    latency.DELIVERY: ("Sent to delivered", "From leaving for the network until the device confirms."),
    latency.READING: ("Delivered to read", "Only of messages whose readers let it be known."),
    latency.CALLBACK: ("Delay of callbacks", "From what a callback tells of to its receipt here."),
}
AGE_NAMES: Final[Mapping[str, str]] = dict(
    zip(AGES, ("under 1 h", "1 to 6 h", "6 to 24 h", "1 to 3 days", "3 to 7 days", "over 7 days"), strict=True)
)
#: What is sent as CSV, by path.
FILES: Final = {f"/reports/{name}.csv": name for name in ("delivery", "failures", "latency", "stuck")}
#: What is shown of a funnel: the count, its name, its meaning, and the count it is a share of.
STEPS: Final = (
    ("messages", "Messages", "Anything at all is known of them.", "messages", "calm"),
    ("sent", "Sent", "Left the queue of the provider.", "messages", "calm"),
    ("delivered", "Delivered", "Confirmed by the device; read and deleted ones among them.", "messages", "good"),
    ("read", "Read", "Of the delivered, at least: readers can hide it, SMS does not tell.", "delivered", "best"),
    ("failed", "Failed", "Never left the sending side.", "messages", "bad"),
    ("undelivered", "Undelivered", "Left, and was not delivered.", "messages", "bad"),
    ("deleted", "Deleted", "By the recipient, after delivery.", "messages", "gone"),
    ("pending", "Without an outcome", "Neither delivered nor failed so far.", "messages", "wait"),
    ("no_report", "Without any report", "Of these, the provider has said nothing at all.", "messages", "wait"),
)  # fmt: skip


class Counted(NamedTuple):
    """An answer, with what it was made from."""

    made: Made
    items: Sequence[Any]


class Numbers(NamedTuple):
    asked: Asked
    funnel: Counted
    by_time: Counted
    latency: Counted
    latency_by_time: Counted
    by_provider: Counted
    latency_by_provider: Counted
    stuck: Counted


class ReportsPage:
    """Handlers."""

    def __init__(self, *, edge: Edge, reporting: Reporting, search: MessageSearch) -> None:
        self._edge = edge
        self._reporting = reporting
        self._search = search
        self._counts: Mapping[str, Callable[[Scope, datetime], Counted]] = {
            "delivery": lambda scope, _: Counted(*reporting.delivery(scope)),
            "failures": lambda scope, now: Counted(*reporting.failures(scope, now)),
            "latency": lambda scope, _: Counted(*reporting.latency(scope)),
            "stuck": self._stuck,
        }

    async def show(self, request: Request) -> Response:
        told = queries.parameters(request, PARAMETERS)
        viewer, visit = rendering.viewer_of(request), rendering.of(request)
        found = await ranges.answered(self._edge, self._read, viewer, visit, told)
        asked = found.asked
        whole = found.funnel.items[0] if found.funnel.items else None
        return rendering.page(
            request,
            "reports.html",
            asked=asked,
            range_names=RANGE_NAMES,
            numbers=found,
            whole=whole,
            steps=_steps(whole),
            times=[(_epoch(item.group[asked.bucket], asked.scope.zone), item) for item in found.by_time.items],
            measures=MEASURES,
            durations={item.measure: item for item in found.latency.items},
            delays=[
                (_epoch(item.group[asked.bucket], asked.scope.zone), item)
                for item in found.latency_by_time.items
                if item.measure == latency.DELIVERY
            ],
            providers=_providers(found),
            ages=AGE_NAMES,
            stuck=[(group, _age_bars(group)) for group in found.stuck.items],
        )

    async def download(self, request: Request) -> Response:
        """Send one report as CSV: what the page shows, by the groups that are asked for."""
        name = FILES[request.url.path]
        told = queries.parameters(request, (*PARAMETERS, "group_by"))
        viewer, now = rendering.viewer_of(request), rendering.of(request).now

        def read() -> Counted:
            return self._counts[name](ranges.read(told, viewer, self._search.scopes(), now).scope, now)

        made, items = await ranges.answered(self._edge, read)
        answer = as_table(items, made.positions, tables.CSV)
        answer.headers["content-disposition"] = f'attachment; filename="{name}.csv"'
        return answer

    def _read(self, viewer: Viewer, visit: Visit, told: Mapping[str, str]) -> Numbers:
        asked = ranges.read(told, viewer, self._search.scopes(), visit.now)
        reporting = self._reporting

        def by(*groups: str) -> Scope:
            return msgspec.structs.replace(asked.scope, group_by=groups)

        return Numbers(
            asked=asked,
            funnel=Counted(*reporting.delivery(by())),
            by_time=Counted(*reporting.delivery(by(asked.bucket))),
            latency=Counted(*reporting.latency(by())),
            latency_by_time=Counted(*reporting.latency(by(asked.bucket))),
            by_provider=Counted(*reporting.delivery(by("channel", "provider"))),
            latency_by_provider=Counted(*reporting.latency(by("channel", "provider"))),
            stuck=self._stuck(asked.scope, visit.now),
        )

    def _stuck(self, scope: Scope, now: datetime) -> Counted:
        made, found = self._reporting.stuck(scope, now, limit=1)
        return Counted(made, sorted(found.groups, key=lambda group: -group.messages))


class Step(NamedTuple):
    name: str
    meaning: str
    messages: int
    share: float | None
    bar: str


def _steps(funnel: Funnel | None) -> list[Step]:
    if funnel is None:
        return []
    found = []
    for field, name, meaning, of, kind in STEPS:
        count, whole = getattr(funnel, field), getattr(funnel, of)
        found.append(Step(name, meaning, count, count / whole if whole else None, bar(count, funnel.messages, kind)))
    return found


class ProviderRow(NamedTuple):
    funnel: Funnel
    delivery: Latency | None  #: from sent to delivered
    bar: str


def _providers(numbers: Numbers) -> list[ProviderRow]:
    delivery = {
        tuple(item.group.values()): item
        for item in numbers.latency_by_provider.items
        if item.measure == latency.DELIVERY
    }
    return [
        ProviderRow(item, delivery.get(tuple(item.group.values())), bar(item.delivery_rate or 0, 1, "good"))
        for item in sorted(numbers.by_provider.items, key=lambda item: -item.messages)
    ]


def _age_bars(group: StuckGroup) -> list[tuple[str, int, str]]:
    return [(AGE_NAMES[age], count, bar(count, group.messages, "wait")) for age, count in group.ages.items()]


def _epoch(bucket: str, zone: ZoneInfo) -> int:
    """Return when an hour or a day begins, in seconds since 1970."""
    if len(bucket) == len("2026-11-26"):
        return int(datetime.combine(date.fromisoformat(bucket), time.min, zone).timestamp())
    return int(datetime.fromisoformat(bucket).timestamp())

"""Operations: how providers and read models do, what needs attention, what comes in and what is turned away."""

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.events import MessageErased, MessageLinked, MessageRegistered, StatusCorrected, StatusObserved
from ledger.http import queries
from ledger.http.edge import Edge
from ledger.http.problems import Problem, invalid_field
from ledger.screens import ranges, rendering
from ledger.screens.access import Viewer
from ledger.store import refusals
from ledger.store.application import Ledger
from ledger.store.polls import AccountState, Polls
from ledger.store.refusals import Refusal
from ledger.store.tail import Tail, Tailed
from ledger.wire.contract import Account, Polling
from projections import feed, rebuild_orders
from projections.attention import Placed
from projections.feed import Progress, Projection
from projections.providers import ProviderHealth
from projections.rebuild_orders import NOBODY_SECONDS, Order
from projections.reporting import Reporting
from projections.scope import Scope

PATH: Final = "/operations"
#: Lines of the tail, and events of each partition that are looked through for them.
TAIL: Final = 30
_LOOKED_THROUGH: Final = 300
_WHY_CHARACTERS_MAX: Final = 500
_KIND_WORDS: Final[Mapping[str, str]] = {
    "conflict": "Conflict",
    "unrecognised_status": "Unknown word",
    "unrecognised_code": "Unknown code",
    "unreadable": "Unreadable",
    "recurring_recipient": "Recurring errors",
    "parked_event": "Parked event",
}
_EVENT_WORDS: Final[Mapping[type, str]] = {
    StatusObserved: "observed",
    StatusCorrected: "corrected",
    MessageRegistered: "registered",
    MessageLinked: "handed off",
    MessageErased: "erased",
}


class Line(NamedTuple):
    """Something that came in: an event of the log, or a request that was turned away."""

    at: datetime
    what: str  #: of an event; empty for a refusal
    tailed: Tailed | None
    refusal: Refusal | None


class Model(NamedTuple):
    """A read model: its live generation summed up over partitions, and what was last asked of it."""

    name: str
    live: Sequence[Progress]
    order: Order | None
    done: tuple[int, int] | None  #: events built and in all, of a rebuild under way
    is_left_alone: bool  #: nobody has taken the order up

    @property
    def lag_events(self) -> int:
        return sum(each.lag_events for each in self.live)

    @property
    def lag_seconds(self) -> float:
        return max((each.lag_seconds for each in self.live), default=0.0)

    @property
    def rate(self) -> float:
        return sum(each.rate for each in self.live)

    @property
    def trend(self) -> str:
        trends = {each.trend for each in self.live}
        return next((trend for trend in ("rising", "falling") if trend in trends), "steady")

    @property
    def parked(self) -> int:
        return sum(each.parked for each in self.live)


class Asking(NamedTuple):
    """How an account's provider is asked, and how that goes."""

    budget: Polling
    state: AccountState


class Shown(NamedTuple):
    providers: Sequence[ProviderHealth]
    polling: Mapping[str, Asking]
    models: Sequence[Model]
    attention: Sequence[Placed]
    lines: Sequence[Line]


class OperationsPage:
    """Handlers."""

    def __init__(
        self,
        *,
        edge: Edge,
        ledger: Ledger,
        reporting: Reporting,
        projections: Sequence[Projection],
        accounts: Mapping[str, Account],
    ) -> None:
        self._edge = edge
        self._ledger = ledger
        self._reporting = reporting
        self._projections = projections
        self._accounts = sorted(accounts)
        self._budgets = {name: account.poll for name, account in accounts.items() if account.poll is not None}
        self._tail = Tail(ledger)

    async def show(self, request: Request) -> Response:
        queries.parameters(request, ())
        viewer, now = rendering.viewer_of(request), rendering.of(request).now
        shown = await ranges.answered(self._edge, self._read, viewer, now)
        return rendering.page(request, "operations.html", shown=shown, kinds=_KIND_WORDS)

    async def resolve(self, request: Request) -> Response:
        """Note that somebody has dealt with an item, as far as it was seen."""
        viewer, visit = rendering.viewer_of(request), rendering.of(request)
        told = {name: visit.form.get(name, "") for name in ("account", "channel", "item", "why")}
        seen_through = queries.instant({"seen_through": visit.form.get("seen_through", "")}, "seen_through")
        why = told["why"].strip()
        if not 1 <= len(why) <= _WHY_CHARACTERS_MAX or "\x00" in why:
            raise invalid_field("why", f"must be text of 1 to {_WHY_CHARACTERS_MAX} characters")
        if seen_through is None:
            raise invalid_field("seen_through", "must be an RFC 3339 time")

        def write() -> None:
            found = self._reporting.attention(_scope(viewer, visit.now))[1]
            named = (told["account"], told["channel"], told["item"])
            for placed in found:
                if (placed.account, placed.channel, placed.item.item) == named:
                    through = min(seen_through, placed.item.last_seen)
                    self._reporting.resolve(*named, through, by=viewer.name, why=why)
                    return
            raise Problem("not_found", "Nothing of this name is waiting for attention.")

        await ranges.answered(self._edge, write)
        return rendering.redirect(request, f"{PATH}#attention")

    async def rebuild(self, request: Request) -> Response:
        """Ask for a rebuild, or for what it would change."""
        viewer, form = rendering.viewer_of(request), rendering.of(request).form
        name, dry_run = form.get("projection", ""), form.get("dry_run") == "yes"
        if name not in [projection.name for projection in self._projections]:
            raise invalid_field("projection", "is not a read model that can be rebuilt")
        await self._edge.read(lambda: rebuild_orders.place(self._ledger, name, dry_run=dry_run, by=viewer.name))
        return rendering.redirect(request, f"{PATH}#models")

    # Reading ----------------------------------------------------------------------------------------------------------

    def _read(self, viewer: Viewer, now: datetime) -> Shown:
        scope = _scope(viewer, now)
        accounts = [account for account in self._accounts if viewer.accounts is None or account in viewer.accounts]
        states = Polls(self._ledger).states([name for name in accounts if name in self._budgets], counting=False)
        return Shown(
            providers=self._reporting.providers(scope, now)[1],
            polling={state.account: Asking(self._budgets[state.account], state) for state in states},
            models=self._models(now) if viewer.sees_everything else (),
            attention=self._reporting.attention(scope)[1],
            lines=self._lines(viewer, accounts),
        )

    def _models(self, now: datetime) -> list[Model]:
        with self._ledger.reading() as cursor:
            found = feed.progress(cursor, self._projections)
        orders = rebuild_orders.newest(self._ledger)
        models = []
        for projection in self._projections:
            order = orders.get(projection.name)
            waits_since = order.asked_at if order is not None and order.begun_at is None else now
            models.append(
                Model(
                    name=projection.name,
                    live=[each for each in found if each.projection == projection.name and each.state == "live"],
                    order=order,
                    done=rebuild_orders.progress(self._ledger, projection) if order and not order.ended_at else None,
                    is_left_alone=now - waits_since > timedelta(seconds=NOBODY_SECONDS),
                )
            )
        return models

    def _lines(self, viewer: Viewer, accounts: Sequence[str]) -> list[Line]:
        """Return what came in last, newest first: of the newest events of each partition those that the viewer sees."""
        heads = self._tail.heads()
        each = max(TAIL, _LOOKED_THROUGH // len(heads))
        page = self._tail.page([max(0, head - each) for head in heads], each, viewer.sees)
        lines = [
            Line(found.recorded.recorded_at, _EVENT_WORDS[type(found.recorded.event)], found, None)
            for _, found in page[-_LOOKED_THROUGH:]
            if isinstance(found, Tailed)
        ]
        if viewer.channel is None:
            lines += [Line(told.refused_at, "", None, told) for told in refusals.newest(self._ledger, accounts, TAIL)]
        newest = enumerate(lines)  # of one instant, the later one in the log is the newer
        return [line for _, line in heapq.nlargest(TAIL, newest, key=lambda each: (each[1].at, each[0]))]


def _scope(viewer: Viewer, now: datetime) -> Scope:
    """Return everything that a viewer sees, of the last 24 hours where a range applies."""
    hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    return Scope(
        accounts=None if viewer.accounts is None else tuple(sorted(viewer.accounts)),
        channel=viewer.channel,
        since=hour - timedelta(hours=24),
        until=hour,
    )

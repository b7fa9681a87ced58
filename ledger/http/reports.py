"""`/v1/reports` and `/v1/attention`: parameters in, a report out, in the form that was asked for."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ledger.http import queries, tables
from ledger.http.access import Access, admitted
from ledger.http.bodies import (
    AttentionList,
    DeliveryReport,
    FailuresReport,
    LatencyReport,
    ProvidersReport,
    ResolutionRequest,
    Resolved,
    StuckReport,
)
from ledger.http.edge import Edge
from ledger.http.inputs import decoded, read_body
from ledger.http.problems import Problem, invalid_field, invalid_parameter, unavailable
from ledger.store.keys import ApiKey
from projections.reporting import Made, NotBuilt, Position, Reporting
from projections.scope import GROUPS, Scope, TooManyGroups

T = TypeVar("T")

RANGE_DEFAULT: Final = timedelta(days=7)
PARAMETERS: Final = ("since", "until", "group_by", "time_zone", "provider", "country")
_HOUR: Final = timedelta(hours=1)
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


class ReportsApi:
    """Handlers. A key sees its own account and channel."""

    def __init__(
        self,
        *,
        edge: Edge,
        access: Access,
        reporting: Reporting,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._edge = edge
        self._access = access
        self._reporting = reporting
        self._now = now

    async def delivery(self, request: Request) -> Response:
        def read(key: ApiKey) -> DeliveryReport:
            scope = self._scope(request, key)
            made, items = self._reporting.delivery(scope)
            return DeliveryReport(**self._head(scope, made), items=items)

        return await self._answer(request, read)

    async def failures(self, request: Request) -> Response:
        def read(key: ApiKey) -> FailuresReport:
            scope = self._scope(request, key)
            made, items = self._reporting.failures(scope, self._now())
            return FailuresReport(**self._head(scope, made), items=items)

        return await self._answer(request, read)

    async def latency(self, request: Request) -> Response:
        def read(key: ApiKey) -> LatencyReport:
            scope = self._scope(request, key)
            made, items = self._reporting.latency(scope)
            return LatencyReport(**self._head(scope, made), items=items)

        return await self._answer(request, read)

    async def providers(self, request: Request) -> Response:
        def read(key: ApiKey) -> ProvidersReport:
            scope = self._scope(request, key, allowed=("since", "until", "provider"))
            made, items = self._reporting.providers(scope, self._now())
            return ProvidersReport(**self._head(scope, made), items=items)

        return await self._answer(request, read)

    async def stuck(self, request: Request) -> Response:
        def read(key: ApiKey) -> StuckReport:
            told = queries.parameters(request, ("provider", "country", "cursor", "limit"))
            scope, limit = _own(key, self._now(), told), queries.limit(told)
            made, found = self._reporting.stuck(scope, self._now(), limit=limit + 1, after=queries.decode_cursor(told))
            page, more = found.oldest[:limit], len(found.oldest) > limit
            cursor = queries.encode_cursor(page[-1].last_heard_at, page[-1].message_id) if more else None
            return StuckReport(
                computed_at=self._now(),
                positions=made.positions,
                groups=found.groups,
                items=page,
                next_cursor=cursor,
            )

        return await self._answer(request, read)

    async def attention(self, request: Request) -> Response:
        def read(key: ApiKey) -> AttentionList:
            queries.parameters(request, ())
            made, found = self._reporting.attention(_own(key, self._now()))
            items = [placed.item for placed in found]
            return AttentionList(computed_at=self._now(), positions=made.positions, items=items)

        return await self._answer(request, read)

    async def resolve(self, request: Request) -> Response:
        body = await read_body(request)

        def write(key: ApiKey) -> Resolved:
            queries.parameters(request, ())
            told = decoded(body, ResolutionRequest)
            for field in ("item", "by", "why"):
                if "\x00" in getattr(told, field):
                    raise invalid_field(field, "must not contain NUL")
            found = self._reporting.attention(_own(key, self._now()))[1]
            known = [placed.item for placed in found if placed.item.item == told.item]
            if not known:
                raise Problem("not_found", "Nothing of this name is waiting for attention.")
            through = min(told.seen_through, known[0].last_seen)
            at = self._reporting.resolve(key.account, key.channel.value, told.item, through, by=told.by, why=told.why)
            return Resolved(item=told.item, seen_through=through, resolved_at=at)

        _, resolved = await self._read(request, write)
        return Response(msgspec.json.encode(resolved), media_type=tables.JSON)

    # Shared -----------------------------------------------------------------------------------------------------------

    def _scope(self, request: Request, key: ApiKey, *, allowed: Sequence[str] = PARAMETERS) -> Scope:
        return scope_of(queries.parameters(request, allowed), (key.account,), key.channel.value, self._now())

    def _head(self, scope: Scope, made: Made) -> dict[str, Any]:
        return {
            "computed_at": self._now(),
            "since": scope.since,
            "until": scope.until,
            "time_zone": scope.zone.key,
            "group_by": scope.group_by,
            "rules": made.rules,
            "positions": made.positions,
        }

    async def _answer(self, request: Request, read: Callable[[ApiKey], Any]) -> Response:
        form = tables.chosen(request.headers.get("accept"))
        if form is None:
            raise Problem("not_acceptable", f"There are {', '.join(tables.FORMS)}.")
        _, report = await self._read(request, read)
        return _formed(report, form)

    async def _read(self, request: Request, then: Callable[[ApiKey], T]) -> tuple[ApiKey, T]:
        try:
            return await admitted(self._edge, self._access, request, then)
        except NotBuilt:
            raise unavailable("The reports have not been built yet.") from None
        except TooManyGroups as error:
            detail = f"would be {error}: ask for a shorter range or fewer groups"
            raise invalid_parameter("group_by", detail) from None


def scope_of(told: Mapping[str, str], accounts: tuple[str, ...] | None, channel: str | None, now: datetime) -> Scope:
    """Return what is asked: full hours that contain the range. Raises Problem naming the parameter."""
    until = _hour_up(queries.instant(told, "until") or now)
    since = _hour_down(queries.instant(told, "since") or until - RANGE_DEFAULT)
    if not _EARLIEST <= since <= _LATEST:
        raise invalid_parameter("since", "must be a time between 2000 and 2200")
    if not since < until <= _LATEST:
        raise invalid_parameter("until", "must be a time after `since`")
    groups = tuple(name.strip() for name in told.get("group_by", "").split(",") if name.strip())
    for name in groups:
        if name not in GROUPS:
            raise invalid_parameter("group_by", f"must be among {', '.join(GROUPS)}")
    if len(set(groups)) < len(groups):
        raise invalid_parameter("group_by", "names a group twice")
    return msgspec.structs.replace(
        scope_without_range(told, accounts, channel, now),
        since=since,
        until=until,
        group_by=groups,
        zone=_zone(told.get("time_zone", "UTC")),
    )


def scope_without_range(
    told: Mapping[str, str], accounts: tuple[str, ...] | None, channel: str | None, now: datetime
) -> Scope:
    """Return what is asked of what has no range. Raises Problem naming the parameter."""
    country = told.get("country")
    if country is not None and not re.fullmatch(r"[A-Za-z]{2}|", country):
        raise invalid_parameter("country", "must be an ISO 3166 code of two letters, or empty for unknown")
    hour = _hour_up(now)
    return Scope(
        accounts=accounts,
        channel=channel,
        since=hour - RANGE_DEFAULT,
        until=hour,
        provider=told.get("provider"),
        country=country.upper() if country is not None else None,
    )


def _own(key: ApiKey, now: datetime, told: Mapping[str, str] | None = None) -> Scope:
    return scope_without_range(told or {}, (key.account,), key.channel.value, now)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise invalid_parameter("time_zone", "must be a name of the IANA time zone database") from None


def _hour_down(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _hour_up(at: datetime) -> datetime:
    try:
        return at if at == _hour_down(at) else _hour_down(at) + _HOUR
    except OverflowError:
        raise invalid_parameter("until", "must be a time between 2000 and 2200") from None


def _formed(report: Any, form: str) -> Response:
    if form == tables.JSON:
        return Response(msgspec.json.encode(report), media_type=form, headers={"vary": "accept"})
    return as_table(report.items, report.positions, form)


def as_table(items: Sequence[msgspec.Struct], positions: Mapping[str, Position], form: str) -> Response:
    """Return items as CSV, JSON lines or Parquet. A header says what they were made from."""
    records = [tables.flat(item) for item in items]
    columns = tables.columns_of(records)
    made_from = ", ".join(f"{partition}={told.position}" for partition, told in positions.items())
    headers = {"vary": "accept", "ledger-positions": made_from}
    if form == tables.PARQUET:
        try:
            return Response(tables.as_parquet(records, columns), media_type=form, headers=headers)
        except tables.ParquetMissing as missing:
            raise Problem("not_acceptable", f"{missing}") from None
    written = tables.as_csv(records, columns) if form == tables.CSV else tables.as_json_lines(records)
    return Response(b"".join(written), media_type=form, headers=headers)

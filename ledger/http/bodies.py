"""Answers of the reports. The OpenAPI document is generated from these."""

from datetime import datetime

import msgspec

from ledger.http.shapes import Instant, LongText
from projections.attention import Item
from projections.delivery import Funnel
from projections.failure_reasons import FailureGroup
from projections.latency import Latency
from projections.providers import ProviderHealth
from projections.reporting import Position
from projections.stuck import StuckGroup, StuckMessage


class ReportHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a report was asked for, and what it was made from."""

    computed_at: datetime
    since: datetime  #: the range that was counted: full hours
    until: datetime
    time_zone: str
    group_by: tuple[str, ...]
    rules: str  #: the catalogue of failure reasons
    positions: dict[str, Position]  #: by partition: what is in the answer


class DeliveryReport(ReportHead, frozen=True, kw_only=True):
    items: list[Funnel]


class FailuresReport(ReportHead, frozen=True, kw_only=True):
    items: list[FailureGroup]


class LatencyReport(ReportHead, frozen=True, kw_only=True):
    items: list[Latency]


class StuckReport(msgspec.Struct, frozen=True, kw_only=True):
    computed_at: datetime
    positions: dict[str, Position]
    groups: list[StuckGroup]
    items: list[StuckMessage]
    next_cursor: str | None


class ProvidersReport(ReportHead, frozen=True, kw_only=True):
    items: list[ProviderHealth]


class AttentionList(msgspec.Struct, frozen=True, kw_only=True):
    computed_at: datetime
    positions: dict[str, Position]
    items: list[Item]


class ResolutionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody has dealt with an item. It shows again once something newer happens to it."""

    item: LongText
    seen_through: Instant  #: the item's `last_seen` as it was shown
    by: LongText
    why: LongText


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    item: str
    seen_through: datetime
    resolved_at: datetime

"""Requests and answers about webhook endpoints. The OpenAPI document is generated from these."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ledger.domain.status import Status

Url = Annotated[str, Meta(min_length=1, max_length=2_048, description="https, port 443 or 8443")]
Description = Annotated[str, Meta(max_length=512)]
Statuses = Annotated[list[Status], Meta(min_length=1, max_length=7)]
Secret = Annotated[str, Meta(min_length=1, max_length=128, description="whsec_ and base64 of 24 to 64 bytes")]
Instant = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset")]

KEEP_OLD_SECONDS: int = 86_400
KEEP_OLD_SECONDS_MAX: int = 7 * 86_400


class EndpointRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address of yours. It belongs to the key's account and channel."""

    url: Url
    description: Description = ""
    statuses: Statuses | None = None
    secret: Secret | None = None


class EndpointChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be different. What is left out stays."""

    url: Url | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    statuses: Statuses | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class SecretRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new signing secret: your own, or one that is made."""

    secret: Secret | None = None
    keep_old_seconds: Annotated[int, Meta(ge=0, le=KEEP_OLD_SECONDS_MAX)] = KEEP_OLD_SECONDS


class ResendRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`as_new` sends under a `webhook-id` of its own, for a receiver that would take the old one for a repetition."""

    as_new: bool = False


class RecoverRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which changes are to be sent: of that time, and not delivered unless `delivered` says so."""

    since: Instant
    until: Instant | None = None
    delivered: bool = False


class SecretShape(msgspec.Struct, frozen=True, kw_only=True):
    """A signing secret in use, without the secret."""

    created_at: datetime
    until: datetime | None


class EndpointShape(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint and how it is doing."""

    id: str
    url: str
    description: str
    account: str
    channel: str
    statuses: tuple[str, ...] | None
    enabled: bool
    disabled_at: datetime | None
    disabled_reason: str | None
    failures: int
    failing_since: datetime | None
    last_succeeded_at: datetime | None
    paused_until: datetime | None
    secrets: tuple[SecretShape, ...]
    created_at: datetime
    changed_at: datetime


class EndpointCreated(EndpointShape, frozen=True, kw_only=True):
    """A new endpoint with its secret, which is not shown again."""

    secret: str


class SecretCreated(msgspec.Struct, frozen=True, kw_only=True):
    """The new secret, which is not shown again, and all that are in use."""

    secret: str
    secrets: tuple[SecretShape, ...]


class EndpointStatus(EndpointShape, frozen=True, kw_only=True):
    """An endpoint with how many deliveries are in each state."""

    deliveries: dict[str, int]


class EndpointPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[EndpointShape]


class DeliveryShape(msgspec.Struct, frozen=True, kw_only=True):
    """A status change at an endpoint."""

    id: str
    webhook_id: str | None
    message_id: int | None
    version: int | None
    status: str
    state: str
    why: str | None
    attempts: int
    recorded_at: datetime
    next_at: datetime | None
    settled_at: datetime | None


class DeliveryPage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[DeliveryShape]
    next_cursor: str | None


class AttemptShape(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, and the beginning of what was answered."""

    number: int
    attempted_at: datetime
    milliseconds: int
    outcome: str
    answer: int | None
    body: str


class DeliveryDetail(DeliveryShape, frozen=True, kw_only=True):
    """A delivery with all its attempts."""

    log: list[AttemptShape]


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """How many changes are pending now; `complete` is false if there are more: ask again."""

    count: int
    complete: bool


class NoticeShape(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner of an endpoint should know."""

    id: int
    noticed_at: datetime
    what: str
    why: str | None


class NoticePage(msgspec.Struct, frozen=True, kw_only=True):
    items: list[NoticeShape]
    next_cursor: str | None

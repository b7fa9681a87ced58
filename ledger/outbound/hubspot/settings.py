"""What a `[hubspot.ACCOUNT]` table of the configuration says."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from ledger.domain.status import Status
from ledger.wire.contract import Secret


class Api(StrEnum):
    """Which of HubSpot's timelines is written to."""

    APP_EVENTS = "app-events"  #: of the developer platform, dated 2026-03
    LEGACY_V3 = "legacy-v3"  #: timeline events v3, for apps that have event templates already


class HubspotSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One of the ledger's accounts at one HubSpot account."""

    account: str
    client_id: str
    client_secret: Secret
    refresh_token: Secret
    event_type: str
    api: Api
    statuses: tuple[str, ...]
    phone_properties: tuple[str, ...]
    status_property: str | None
    updated_property: str | None
    base_url: str
    requests_per_10_seconds: int
    searches_per_second: int
    time_zone: ZoneInfo


class HubspotTable(msgspec.Struct, forbid_unknown_fields=True):
    """The table as written."""

    client_id: str
    client_secret: str
    refresh_token: str
    event_type: str
    api: str = Api.APP_EVENTS.value
    statuses: tuple[Status, ...] = (Status.SENT, Status.DELIVERED, Status.READ, Status.DELETED, Status.FAILED)
    phone_properties: tuple[str, ...] = ("phone", "mobilephone")
    status_property: str | None = None
    updated_property: str | None = None
    base_url: str = "https://api.hubapi.com"
    requests_per_10_seconds: int = 100
    searches_per_second: int = 4
    time_zone: str = "UTC"


#: What numbers may be.
BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "requests_per_10_seconds": (1, 1_000),
    "searches_per_second": (1, 50),
}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
#: Filter groups of a search: HubSpot takes no more.
_PHONE_PROPERTIES_MAX: Final = 5


def read(account: str, table: Mapping[str, Any], resolve: Callable[[str], Secret]) -> HubspotSettings:
    """Return the settings. Raises ValueError that names the key and never repeats a value."""
    try:
        told = msgspec.convert(table, HubspotTable)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        if problem.startswith("Invalid enum value"):  # the one text of msgspec's that quotes a value
            problem = "is not one of the values it may have"
        raise ValueError(f"{place.strip('`').lstrip('.')}: {problem}" if place else problem) from None
    if told.api not in [api.value for api in Api]:
        raise ValueError(f"api: must be one of {', '.join(Api)}")
    for name, (low, high) in BOUNDS.items():
        if not low <= getattr(told, name) <= high:
            raise ValueError(f"{name}: must be a whole number from {low} to {high}")
    named = [*told.phone_properties, *filter(None, (told.status_property, told.updated_property))]
    if not 1 <= len(told.phone_properties) <= _PHONE_PROPERTIES_MAX or not all(map(_NAME.fullmatch, named)):
        raise ValueError("phone_properties, status_property and updated_property: must be names of properties")
    if not told.statuses:
        raise ValueError("statuses: must not be empty")
    if not told.base_url.startswith(("https://", "http://")):
        raise ValueError("base_url: must start with https://")
    try:
        zone = ZoneInfo(told.time_zone)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError("time_zone: must be the name of a time zone, such as Europe/Vienna") from None
    return HubspotSettings(
        account=account,
        client_id=_named("client_id", resolve, told.client_id).reveal().decode(),
        client_secret=_named("client_secret", resolve, told.client_secret),
        refresh_token=_named("refresh_token", resolve, told.refresh_token),
        event_type=told.event_type,
        api=Api(told.api),
        statuses=tuple(status.value for status in told.statuses),
        phone_properties=tuple(told.phone_properties),
        status_property=told.status_property,
        updated_property=told.updated_property,
        base_url=told.base_url.rstrip("/"),
        requests_per_10_seconds=told.requests_per_10_seconds,
        searches_per_second=told.searches_per_second,
        time_zone=zone,
    )


def _named(name: str, resolve: Callable[[str], Secret], text: str) -> Secret:
    try:
        return resolve(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None

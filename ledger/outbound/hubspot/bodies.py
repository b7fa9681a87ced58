"""Timeline events as HubSpot takes them: one for a status change, never edited afterwards.

The id is made of message and version, so that sending an event again is recognised on the other side. Values of
properties are texts.
"""

from typing import Any, Final

from ledger.domain.reading import last_updated, times
from ledger.outbound import telling
from ledger.outbound.hubspot.settings import Api, HubspotSettings
from ledger.surfaces import vocabulary
from ledger.surfaces.vocabulary import Surface

#: The names to define as properties of the event type, or as tokens of the template.
PROPERTIES: Final = (
    "messageId", "version", "channel", "status", "headline", "lastUpdated", "reason", "advice", "providerCode",
)  # fmt: skip

_PATHS: Final = {
    Api.APP_EVENTS: ("/integrators/timeline/2026-03/events", "/integrators/timeline/2026-03/events/batch"),
    Api.LEGACY_V3: ("/integrators/timeline/v3/events", "/integrators/timeline/v3/events/batch/create"),
}


def path(api: Api, *, is_batch: bool) -> str:
    return _PATHS[api][is_batch]


def event_id(change: telling.Change, resends: int = 0) -> str:
    return f"ledger-{change.id}{f'-r{resends}' if resends else ''}"


def event(settings: HubspotSettings, change: telling.Change, contact_id: str, resends: int = 0) -> dict[str, Any]:
    """Return one event of the account's kind."""
    at = (change.occurred_at or change.recorded_at).isoformat().replace("+00:00", "Z")
    common = {
        "id": event_id(change, resends),
        "objectId": contact_id,
        "timestamp": at,
        "extraData": {"history": _history(change)},
    }
    if settings.api is Api.APP_EVENTS:
        return {"eventTypeName": settings.event_type, "properties": properties(change), **common}
    return {"eventTemplateId": settings.event_type, "tokens": properties(change), **common}


def properties(change: telling.Change) -> dict[str, str]:
    told, why = change.message, telling.failure(change.message)
    updated = last_updated(told)
    values = (
        str(change.message_id),
        str(change.version),
        told.channel.value,
        vocabulary.word_of(Surface.HUBSPOT, told).label,
        vocabulary.hubspot_wording(told),
        vocabulary.clock(updated) if updated else "",
        why.title if why else "",
        why.advice if why else "",
        (why.code or "") if why else "",
    )
    return dict(zip(PROPERTIES, values, strict=True))


def _history(change: telling.Change) -> list[dict[str, str]]:
    """List the times that were reached, earliest first."""
    reached = [(instant.at, field) for field, instant in times(change.message).items() if instant is not None]
    return [{"at": vocabulary.clock(at), "status": field.removesuffix("_at")} for at, field in sorted(reached)]


def current(settings: HubspotSettings, change: telling.Change) -> dict[str, str]:
    """Return the properties of a contact that tell the status of its latest message; none if none are named."""
    told = change.message
    found = {}
    if settings.status_property is not None:
        found[settings.status_property] = vocabulary.word_of(Surface.HUBSPOT, told).label
    updated = last_updated(told)
    if settings.updated_property is not None and updated is not None:
        found[settings.updated_property] = updated.isoformat().replace("+00:00", "Z")
    return found


def search(settings: HubspotSettings, phone: str) -> dict[str, Any]:
    """Return a search for the contact that has a number in any of the properties.

    No order is asked for: HubSpot's guide and its published schema do not agree on how.
    """
    return {
        "filterGroups": [
            {"filters": [{"propertyName": name, "operator": "EQ", "value": phone}]}
            for name in settings.phone_properties
        ],
        "properties": ["hs_object_id"],
        "limit": 1,
    }

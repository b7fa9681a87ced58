"""HubSpot as far as it is documented, over a real socket, with faults on demand.

One server is one HubSpot account. It is strict: a body that its published schemas do not allow is refused, and its own
answers follow them.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qs

import jsonschema
import msgspec

from tests.outbound import hubspot_schemas
from tests.outbound.receiver import Act, Handler, Receiver, receiving

CORRELATION_ID: Final = "aeb5f871-7f07-4993-9211-075dc63e7cbf"
#: What is sent where, and what is answered, by the names of the published schemas.
_SENT: Final = {
    "/crm/v3/objects/contacts/search": "PublicObjectSearchRequest",
    "/crm/v3/objects/contacts/": "SimplePublicObjectInput",
    "/integrators/timeline/2026-03/events": "AppEventOccurrence",
    "/integrators/timeline/2026-03/events/batch": "BatchInputAppEventOccurrence",
    "/integrators/timeline/v3/events": "TimelineEvent",
    "/integrators/timeline/v3/events/batch/create": "BatchInputTimelineEvent",
}
_AT: Final = "2026-11-26T10:00:00Z"
_BATCH: Final = {"status": "COMPLETE", "startedAt": _AT, "completedAt": _AT}


class HubSpot:
    """What a HubSpot account holds, and how it answers."""

    def __init__(self, receiver: Receiver, *, event_type: str, refresh_token: str) -> None:
        self.receiver = receiver
        self.url = receiver.url.removesuffix("/hooks")
        self.event_type = event_type
        self.refresh_token = refresh_token
        self.contacts: dict[str, str] = {}  #: by phone number
        self.events: list[dict[str, Any]] = []  #: in the order they were taken
        self.current: dict[str, list[dict[str, str]]] = {}  #: what contacts were told, by id
        self.tokens: set[str] = set()
        self.lives_seconds = 1800
        self.faults: list[Act | None] = []  #: one a request about events; None lets it pass
        self.property_faults: list[Act | None] = []
        self.calls: list[tuple[str, str]] = []
        self.invalid: list[str] = []  #: what was wrong with bodies that the published schemas do not allow
        self._numbers = itertools.count(1)
        receiver.otherwise = self._answer

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.events]

    def of_contact(self, contact_id: str) -> list[str]:
        """Return the statuses that a contact's timeline shows, in the order they were taken."""
        return [
            (event.get("properties") or event["tokens"])["status"]
            for event in self.events
            if event["objectId"] == contact_id
        ]

    def count(self, ending: str) -> int:
        return sum(path.endswith(ending) for _, path in self.calls)

    def _answer(self, handler: Handler) -> None:
        path, body = handler.path, handler.body
        self.calls.append((handler.command, path))
        if path == "/oauth/v1/token":
            self._token(handler, parse_qs(body.decode()))
        elif handler.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            error(handler, 401, "EXPIRED_AUTHENTICATION", "The OAuth token used to make this call expired.")
        elif not self._is_allowed(path, body):
            error(handler, 400, "VALIDATION_ERROR", "Invalid input")
        elif path == "/crm/v3/objects/contacts/search":
            self._search(handler, msgspec.json.decode(body))
        elif path.startswith("/crm/v3/objects/contacts/") and handler.command == "PATCH":
            self._change(handler, path.rpartition("/")[2], msgspec.json.decode(body))
        elif self.faults and (fault := self.faults.pop(0)) is not None:
            fault(handler)
        elif path == "/integrators/timeline/2026-03/events":
            self._one(handler, msgspec.json.decode(body))
        elif path == "/integrators/timeline/2026-03/events/batch":
            self._batch(handler, msgspec.json.decode(body)["inputs"])
        elif path == "/integrators/timeline/v3/events":
            self._legacy(handler, msgspec.json.decode(body))
        elif path == "/integrators/timeline/v3/events/batch/create":
            self._legacy_batch(handler, msgspec.json.decode(body)["inputs"])
        else:
            error(handler, 404, "OBJECT_NOT_FOUND", "resource not found")

    def _is_allowed(self, path: str, body: bytes) -> bool:
        name = _SENT.get(path) or _SENT.get(path.rpartition("/")[0] + "/")
        if name is not None:
            try:
                hubspot_schemas.check(name, msgspec.json.decode(body))
            except jsonschema.ValidationError as error:
                self.invalid.append(f"{name}: {error.message}")
                return False
        return True

    def _token(self, handler: Handler, form: dict[str, list[str]]) -> None:
        wanted = {
            "grant_type": ["refresh_token"],
            "client_id": ["client-1"],
            "client_secret": ["secret-1"],
            "refresh_token": [self.refresh_token],
        }
        hubspot_schemas.check("TokenRequest", {name: value for name, (value,) in form.items()})
        if form != wanted:
            bad = {"status": "BAD_REFRESH_TOKEN", "message": "missing or invalid refresh token"}
            reply(handler, 400, {**bad, "correlationId": CORRELATION_ID})
            return
        token = f"access-{self.event_type}-{next(self._numbers)}"
        self.tokens.add(token)
        told = {"token_type": "bearer", "token_use": "access_token", "access_token": token}
        answer = {**told, "expires_in": self.lives_seconds, "refresh_token": self.refresh_token}
        reply(handler, 200, answer, schema="AccessTokenResponse")

    def _search(self, handler: Handler, body: dict[str, Any]) -> None:
        groups = body["filterGroups"]
        assert len(groups) <= 5
        wanted = {each["value"] for group in groups for each in group["filters"] if each["operator"] == "EQ"}
        found = [{"id": id_, "properties": {}} for phone, id_ in self.contacts.items() if phone in wanted]
        reply(handler, 200, {"total": len(found), "results": found[: body["limit"]]})

    def _change(self, handler: Handler, contact_id: str, body: dict[str, Any]) -> None:
        if self.property_faults and (fault := self.property_faults.pop(0)) is not None:
            fault(handler)
            return
        self.current.setdefault(contact_id, []).append(body["properties"])
        told = {"id": contact_id, "properties": body["properties"], "createdAt": _AT, "updatedAt": _AT}
        reply(handler, 200, told, schema="SimplePublicObject")

    def _one(self, handler: Handler, event: dict[str, Any]) -> None:
        if event["id"] in self.ids:
            error(handler, 409, "CONFLICT", "An occurrence with this id already exists for this event type.")
        elif event["eventTypeName"] != self.event_type:
            error(handler, 400, "VALIDATION_ERROR", "The event type does not exist.")
        elif event["objectId"] not in self.contacts.values():
            error(handler, 404, "OBJECT_NOT_FOUND", "No contact with this id")
        else:
            self.events.append(event)
            reply(handler, 201, event, schema="AppEventOccurrence")

    def _batch(self, handler: Handler, events: list[dict[str, Any]]) -> None:
        """All or nothing."""
        if any(event["id"] in self.ids for event in events):
            error(handler, 409, "CONFLICT", "One or more occurrences in the batch already exist.")
        elif any(event["eventTypeName"] != self.event_type for event in events):
            error(handler, 400, "VALIDATION_ERROR", "One or more occurrences are invalid.")
        else:
            self.events += events
            reply(handler, 200, {**_BATCH, "results": events}, schema="BatchResponseAppEventOccurrence")

    def _legacy(self, handler: Handler, event: dict[str, Any]) -> None:
        if event["eventTemplateId"] != self.event_type:
            error(handler, 400, "VALIDATION_ERROR", "Invalid input JSON: the template does not exist")
        elif event["objectId"] not in self.contacts.values():
            error(handler, 404, "OBJECT_NOT_FOUND", "No contact with this id")
        else:
            self._keep(event)
            reply(handler, 201, {**event, "objectType": "contacts"}, schema="TimelineEventResponse")

    def _legacy_batch(self, handler: Handler, events: list[dict[str, Any]]) -> None:
        good = [event for event in events if event["objectId"] in self.contacts.values()]
        bad = [event for event in events if event not in good]
        for event in good:
            self._keep(event)
        results = {**_BATCH, "results": [{**event, "objectType": "contacts"} for event in good]}
        if not bad:
            reply(handler, 201, results, schema="BatchResponseTimelineEventResponse")
            return
        errors = [
            {
                "status": "error",
                "category": "OBJECT_NOT_FOUND",
                "message": "No contact",
                "context": {"id": [each["id"]]},
                "errors": [],
                "links": {},
            }
            for each in bad
        ]
        told = {**results, "numErrors": len(bad), "errors": errors}
        reply(handler, 207, told, schema="BatchResponseTimelineEventResponseWithErrors")

    def _keep(self, event: dict[str, Any]) -> None:
        """The same id again: the last one wins."""
        self.events = [each for each in self.events if each["id"] != event["id"]]
        self.events.append(event)


def reply(handler: Handler, status: int, body: object, *, schema: str | None = None, **headers: str) -> None:
    """`schema` names the published one that the answer has to follow."""
    if schema is not None:
        hubspot_schemas.check(schema, body, is_ours=False)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    handler.reply(status, msgspec.json.encode(body), {"content-type": "application/json", **named})


def error(handler: Handler, status: int, category: str, message: str = "") -> None:
    told = {"status": "error", "message": message, "correlationId": CORRELATION_ID, "category": category}
    reply(handler, status, told, schema="Error")


def fails(status: int, category: str = "ERROR") -> Act:
    return lambda handler: error(handler, status, category)


def throttles(policy: str = "TEN_SECONDLY_ROLLING", **headers: str) -> Act:
    body = {"status": "error", "errorType": "RATE_LIMIT", "correlationId": CORRELATION_ID, "policyName": policy}
    return lambda handler: reply(handler, 429, body, **headers)


@contextmanager
def a_hubspot(event_type: str = "ae1_message_status", refresh: str = "refresh-1") -> Iterator[HubSpot]:
    with receiving() as receiver:
        hubspot = HubSpot(receiver, event_type=event_type, refresh_token=refresh)
        yield hubspot
        assert not hubspot.invalid

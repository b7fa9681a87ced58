"""Who may ask for what: every route of the running application in one table, with the answer of every cell.

A row says what whoever may see a thing is answered (`seen`), and what is said of an id that is malformed. A gate says
who gets that far: anybody else is refused with the status that stands there. What an asker does not see is answered
as what does not exist: `ABSENT`.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, NamedTuple

ABSENT: Final = 404


class Asker(Enum):
    """Everybody who asks: with a key in a header, or with the cookie of a session."""

    NOBODY = "nobody"
    WRONG_KEY = "a key that never was"
    NEARLY_KEY = "the owner's key but for its last character"
    ROTATED_KEY = "a rotated key of the owner's account and channel"
    REVOKED_KEY = "a revoked key of the owner's account and channel"
    STRANGER_KEY = "a key of another account"
    CHANNEL_KEY = "a key of the owner's account and another channel"
    OWNER_KEY = "the owner's key"
    VIEWER = "a viewer's session"
    AUDITOR = "an auditor's session"
    OPERATOR = "an operator's session"
    STRANGER_OPERATOR = "the session of an operator of another account"
    OWNER_SESSION = "a session of the owner's key"
    STRANGER_SESSION = "a session of a key of another account"
    ENDED_SESSION = "a session of a key that was revoked since"


class Thing(Enum):
    """What an id may name."""

    OWNERS = "the owner's"
    STRANGERS = "another account's"
    ABSENT = "nothing"
    MALFORMED = "malformed"


_ALL: Final = frozenset({Thing.OWNERS, Thing.STRANGERS})
#: Whose things an asker sees once a gate has let them through.
SEES: Final[Mapping[Asker, frozenset[Thing]]] = {
    Asker.STRANGER_KEY: frozenset({Thing.STRANGERS}),
    Asker.CHANNEL_KEY: frozenset(),
    Asker.OWNER_KEY: frozenset({Thing.OWNERS}),
    Asker.VIEWER: _ALL,
    Asker.AUDITOR: _ALL,
    Asker.OPERATOR: _ALL,
    Asker.STRANGER_OPERATOR: frozenset({Thing.STRANGERS}),
    Asker.OWNER_SESSION: frozenset({Thing.OWNERS}),
    Asker.STRANGER_SESSION: frozenset({Thing.STRANGERS}),
}

KEYS: Final = (Asker.STRANGER_KEY, Asker.CHANNEL_KEY, Asker.OWNER_KEY)
VIEWERS: Final = (Asker.VIEWER,)
INSIDERS: Final = (
    Asker.AUDITOR,
    Asker.OPERATOR,
    Asker.STRANGER_OPERATOR,
    Asker.OWNER_SESSION,
    Asker.STRANGER_SESSION,
)


class Gate(NamedTuple):
    """Who is let through, and what the others are told: `refused`, unless `told` has an asker's own answer."""

    admits: tuple[Asker, ...]
    refused: int
    told: Mapping[Asker, int] = {}


OPEN: Final = Gate(tuple(Asker), 0)
KEY: Final = Gate(KEYS, 401)
#: The documents of the original product have 400 for this.
COMPAT: Final = Gate(KEYS, 400)
SIGNED: Final = Gate((), 401)
READ: Final = Gate((*VIEWERS, *INSIDERS), 303)
EVIDENCE: Final = Gate(INSIDERS, 303, {Asker.VIEWER: 403})
OPERATIONS: Final = EVIDENCE
#: A form without its token.
FORM: Final = Gate((), 403)
#: Whoever has signed in is sent on.
SIGN_IN: Final = Gate((), 200, dict.fromkeys((*VIEWERS, *INSIDERS), 303))


class Row(NamedTuple):
    method: str
    path: str
    gate: Gate
    seen: int = 200
    malformed: int = 404
    body: Any = None

    @property
    def names(self) -> str | None:
        """Return what the id of the path names: a message, an endpoint, a delivery; None if there is none."""
        return next((name for name in ("delivery", "endpoint", "message") if f"{{{name}_id}}" in self.path), None)

    def expected(self, asker: Asker, thing: Thing) -> int:
        """Return the status of a cell."""
        if asker not in self.gate.admits:
            return self.gate.told.get(asker, self.gate.refused)
        if self.names is None:
            return self.seen
        if thing is Thing.MALFORMED:
            return self.malformed
        return self.seen if thing in SEES[asker] else ABSENT


_MESSAGE: Final = "/v1/messages/{message_id}"
_ENDPOINT: Final = "/v1/webhooks/{endpoint_id}"
_DELIVERY: Final = f"{_ENDPOINT}/deliveries/{{delivery_id}}"
_SINCE: Final = {"since": "2026-11-26T00:00:00Z"}

ROWS: Final = [
    # The API
    Row("POST", "/v1/messages", KEY, seen=422, body={"channel": "carrier-pigeon"}),
    Row("GET", "/v1/messages", KEY),
    Row("GET", _MESSAGE, KEY),
    Row("GET", f"{_MESSAGE}/history", KEY),
    Row("POST", f"{_MESSAGE}/handoff", KEY, body={"failure": {"text": "Not sent."}}),
    Row("POST", f"{_MESSAGE}/corrections", KEY, body={"to": "failed", "by": "mallory", "why": "I want it."}),
    Row("GET", f"{_MESSAGE}/events", KEY),
    Row("GET", "/v1/events", KEY),
    *(Row("GET", f"/v1/reports/{name}", KEY) for name in ("delivery", "failures", "latency", "stuck", "providers")),
    Row("GET", "/v1/attention", KEY),
    Row("POST", "/v1/attention/resolutions", KEY, seen=422, body={}),
    Row("POST", "/v1/webhooks", KEY, seen=422, body={"url": "https://10.0.0.1/"}),
    Row("GET", "/v1/webhooks", KEY),
    Row("GET", _ENDPOINT, KEY),
    Row("PATCH", _ENDPOINT, KEY, body={"description": "changed"}),
    Row("DELETE", _ENDPOINT, KEY, seen=204),
    Row("POST", f"{_ENDPOINT}/secrets", KEY, seen=201, body={}),
    Row("GET", f"{_ENDPOINT}/notices", KEY),
    Row("GET", f"{_ENDPOINT}/deliveries", KEY),
    Row("POST", f"{_ENDPOINT}/recover", KEY, seen=202, body=_SINCE),
    Row("GET", _DELIVERY, KEY),
    Row("POST", f"{_DELIVERY}/resend", KEY, seen=202, body={}),
    Row("GET", "/v1/checkpoints", OPEN),
    Row("GET", "/v1/checkpoints/{partition}", OPEN),
    # The compatibility API
    Row("GET", "/api/v1/{channel}/messages", COMPAT),
    Row("GET", "/api/v1/{channel}/messages/", COMPAT, seen=400),
    Row("GET", "/api/v1/{channel}/messages/{message_id}", COMPAT, malformed=400),
    # What is signed by somebody else
    Row("POST", "/webhooks/{account}", SIGNED, body={}),
    *(Row("POST", f"/surfaces/intercom/{name}", SIGNED, body={}) for name in ("initialize", "submit", "configure")),
    # Pages
    Row("GET", "/", READ),
    Row("GET", "/messages/{message_id}", READ),
    Row("GET", "/messages/{message_id}/stream", READ),
    Row("GET", "/messages/{message_id}/proof", EVIDENCE),
    Row("GET", "/failures", READ),
    Row("GET", "/failures/reason", READ),
    Row("GET", "/reports", READ),
    Row("GET", "/reports/delivery.csv", READ),
    Row("GET", "/reports/failures.csv", READ),
    Row("GET", "/reports/latency.csv", READ),
    Row("GET", "/reports/stuck.csv", READ),
    Row("GET", "/operations", OPERATIONS),
    Row("POST", "/operations/resolve", FORM, body={"a": "b"}),
    Row("POST", "/operations/rebuild", FORM, body={"a": "b"}),
    Row("GET", "/sign-in", SIGN_IN),
    Row("POST", "/sign-in", FORM, body={"name": "operator"}),
    Row("POST", "/sign-out", FORM, body={"a": "b"}),
    # What nobody is asked a key for
    Row("GET", "/livez", OPEN),
    Row("GET", "/readyz", OPEN),
    Row("GET", "/metrics", OPEN),
    Row("GET", "/openapi.json", OPEN),
    Row("GET", "/docs", OPEN),
    Row("GET", "/docs/style.css", OPEN),
    Row("GET", "/pages/webhooks", OPEN),
    Row("GET", "/pages/webhooks.css", OPEN),
    Row("GET", "/pages/webhooks.js", OPEN),
    Row("GET", "/static/{name}", OPEN),
]

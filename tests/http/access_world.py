"""The people and things of the access matrix: a server, everybody who asks, and what there is to ask for."""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import httpx

from ledger.screens.static import STATIC
from tests.http.access_table import FORM, Asker, Row, Thing
from tests.http.callbacks import meta, meta_failure, meta_status, new_wamid, only, send
from tests.outbound.receiver import receiving
from tests.plugins.service import Service, Starter, eventually
from tests.screens import people
from tests.surfaces.inbox import INTERCOM

#: The users of one account (`tests.screens.people`) see the stranger's.
ACCOUNTS: Mapping[Thing, str] = {Thing.OWNERS: "meta-other", Thing.STRANGERS: "meta-main"}
CHANNEL = "whatsapp"
#: An id of each kind that nothing has, and one that is none.
_ABSENT = {"message_id": "9007199254740991", "endpoint_id": "wh_0123456789abcdef", "delivery_id": "0-1"}
_MALFORMED = {"message": "none-such", "endpoint": "wh_%00", "delivery": "0-x"}
STATIC_NAME = STATIC.url("theme.js").removeprefix("/static/")
_REST = {"channel": CHANNEL, "partition": "0", "account": ACCOUNTS[Thing.OWNERS], "name": STATIC_NAME}
_REQUEST = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PASSING = ("content-length", "date", "x-request-id")


class Answer(NamedTuple):
    """An answer without what differs from one to the next."""

    status: int
    headers: Mapping[str, str]
    body: str


class World:
    """`sessions`: whether there are people who have signed in, too."""

    def __init__(self, service: Service, receiver_url: str, stack: ExitStack, *, sessions: bool) -> None:
        self.service = service
        self._receiver_url = receiver_url
        self._stack = stack
        self._things: dict[tuple[Thing, str], dict[str, str]] = {}
        self.keys = {thing: service.new_key(account, CHANNEL)[1] for thing, account in ACCOUNTS.items()}
        self.clients = self._with_keys()
        self._new_message(Thing.OWNERS)
        eventually(lambda: self.clients[Asker.NOBODY].get("/v1/checkpoints/0").status_code == 200, "the log is signed")
        if sessions:
            self.clients |= self._with_sessions()
            assert set(self.clients) == set(Asker)

    # Who asks ---------------------------------------------------------------------------------------------------------

    def _with_keys(self) -> dict[Asker, httpx.Client]:
        owners, strangers = self.keys[Thing.OWNERS], self.keys[Thing.STRANGERS]
        nearly = owners[:-1] + ("A" if owners[-1] != "A" else "B")
        told = {
            Asker.NOBODY: None,
            Asker.WRONG_KEY: "slk_" + "x" * 43,
            Asker.NEARLY_KEY: nearly,
            Asker.ROTATED_KEY: self._ended(lambda key: self.service.parts.keys.rotate(key.id)),
            Asker.REVOKED_KEY: self._ended(lambda key: self.service.parts.keys.revoke(key.id)),
            Asker.STRANGER_KEY: strangers,
            Asker.CHANNEL_KEY: self.service.new_key(ACCOUNTS[Thing.OWNERS], "sms")[1],
            Asker.OWNER_KEY: owners,
        }
        return {asker: self._client(key) for asker, key in told.items()}

    def _ended(self, end: Any) -> str:
        key, secret = self.service.new_key(ACCOUNTS[Thing.OWNERS], CHANNEL)
        end(key)
        return secret

    def _with_sessions(self) -> dict[Asker, httpx.Client]:
        key, ended = self.service.new_key(ACCOUNTS[Thing.OWNERS], CHANNEL)
        told = {
            Asker.VIEWER: ("viewer", people.PASSWORD),
            Asker.AUDITOR: ("auditor", people.PASSWORD),
            Asker.OPERATOR: ("operator", people.PASSWORD),
            Asker.STRANGER_OPERATOR: ("operator-of-one", people.PASSWORD),
            Asker.OWNER_SESSION: ("", self.keys[Thing.OWNERS]),
            Asker.STRANGER_SESSION: ("", self.keys[Thing.STRANGERS]),
            Asker.ENDED_SESSION: ("", ended),
        }
        clients = {asker: self._signed_in(*who) for asker, who in told.items()}
        self.service.parts.keys.revoke(key.id)
        return clients

    def _client(self, key: str | None = None) -> httpx.Client:
        return self._stack.enter_context(self.service.another_client(key))

    def _signed_in(self, name: str, secret: str) -> httpx.Client:
        client = self._client()
        client.cookies.set("ledger", people.session(self.service, name, secret), domain=self.service.address[0])
        return client

    # What there is ----------------------------------------------------------------------------------------------------

    def place(self, row: Row, thing: Thing) -> dict[str, str]:
        """Return what fills a row's path so that it names a thing; where there is an id, a new one for every write."""
        if row.names is None:
            return _REST
        if thing is Thing.ABSENT:
            return _REST | _ABSENT
        if thing is Thing.MALFORMED:
            known = self._known(row, Thing.OWNERS) if row.names == "delivery" else {}
            return {**_REST, **known, f"{row.names}_id": _MALFORMED[row.names]}
        return {**_REST, **self._known(row, thing)}

    def _known(self, row: Row, thing: Thing) -> dict[str, str]:
        assert row.names is not None
        if (thing, row.names) not in self._things:
            self._things[thing, row.names] = getattr(self, f"_new_{row.names}")(thing)
        return self._things[thing, row.names]

    def spend(self, row: Row, thing: Thing) -> None:
        """Forget a thing that a write was let through to: whoever comes next needs a new one."""
        if row.method != "GET" and row.names is not None:
            self._things.pop((thing, row.names), None)

    def _new_message(self, thing: Thing) -> dict[str, str]:
        """Make a message in conflict, so that every operation on it has an effect."""
        wamid, account = new_wamid(), ACCOUNTS[thing]
        for status in (meta_status(wamid, "delivered", 5), meta_failure(wamid, 9)):
            assert send(self.service, meta(status, account=account)).status_code == 200
        return {"message_id": str(only(self.owner(thing), wamid)["message_id"])}

    def _new_endpoint(self, thing: Thing) -> dict[str, str]:
        answer = self.owner(thing).post("/v1/webhooks", json={"url": self._receiver_url})
        assert answer.status_code == 201, answer.text
        return {"endpoint_id": answer.json()["id"]}

    def _new_delivery(self, thing: Thing) -> dict[str, str]:
        endpoint = self._new_endpoint(thing)
        self._new_message(thing)
        path = f"/v1/webhooks/{endpoint['endpoint_id']}/deliveries?state=delivered"
        (found, *_) = eventually(lambda: self.owner(thing).get(path).json()["items"], "a change is delivered")
        return {**endpoint, "delivery_id": found["id"]}

    def owner(self, thing: Thing) -> httpx.Client:
        return self.clients[Asker.OWNER_KEY if thing is Thing.OWNERS else Asker.STRANGER_KEY]

    # Asking -----------------------------------------------------------------------------------------------------------

    def ask(self, asker: Asker, row: Row, thing: Thing, method: str | None = None) -> Answer:
        """Ask, and return the answer without what names the request, or the id that was asked for."""
        place = self.place(row, thing)
        path = row.path.format(**place)
        told = {"data": row.body} if row.gate is FORM else {"json": row.body}
        with self.clients[asker].stream(method or row.method, path, **told) as answer:
            endless = answer.headers.get("content-type", "").startswith("text/event-stream")
            text = "" if endless else answer.read().decode("latin-1")
        asked = place.get(f"{row.names}_id", "\0")
        headers = {name: value.replace(asked, "<id>") for name, value in answer.headers.items() if name not in _PASSING}
        return Answer(answer.status_code, headers, _REQUEST.sub("<request>", text).replace(asked, "<id>"))

    def recorded(self) -> list[tuple[Any, ...]]:
        """Return what a refused request must leave as it is."""
        return self.service.rows(
            "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM api_keys),"
            " (SELECT count(*) FROM attention_resolutions), array_agg((id, kind, statuses, disabled_at, sealed)::text"
            " ORDER BY id) FROM destinations WHERE kind <> 'deleted'"  # those are cleared away by and by
        )


@contextmanager
def a_world(start: Starter, database_url: str, *, sessions: bool = True, **settings: Any) -> Iterator[World]:
    with ExitStack() as stack:
        receiver = stack.enter_context(receiving())
        service = start(
            database_url, users=people.tables(), intercom=INTERCOM, outbound_allow="127.0.0.0/8", **settings
        )
        yield World(service, receiver.url, stack, sessions=sessions)

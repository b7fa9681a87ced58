"""Destinations: where status changes are sent, with what is needed to send them.

Addresses, descriptions and secrets are sealed under a data key of the destination: an address may carry a token, and a
copy of the database must not be enough to sign as us. A destination belongs to one account, and to one channel of it
unless it takes them all.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from os import urandom
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.store.application import Ledger
from ledger.store.sealing import DataKey, place

_SEALED: Final = b"destination"


class Kind(StrEnum):
    WEBHOOK = "webhook"
    HUBSPOT = "hubspot"


class Reason(StrEnum):
    """Why a destination is disabled."""

    REQUESTED = "requested"  #: its owner asked for it
    GONE = "gone"  #: it answered 410
    FAILING = "failing"  #: nothing but failures for days
    REFUSED = "refused"  #: what it demands only its owner can give (a permission, new credentials)


class Signer(msgspec.Struct, frozen=True, array_like=True):
    """A signing secret and the time it is used."""

    secret: str  #: `whsec_…`
    created_at: datetime
    until: datetime | None = None  #: None: until it is replaced


class Details(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed."""

    url: str = ""
    description: str = ""
    signers: tuple[Signer, ...] = ()  #: newest first

    def __repr__(self) -> str:
        return "Details('***')"


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    uid: UUID
    kind: Kind
    account: str
    channel: str | None
    statuses: tuple[str, ...] | None  #: None: every status
    created_at: datetime
    changed_at: datetime
    disabled_at: datetime | None
    disabled_reason: Reason | None
    failures: int  #: since the last success
    failing_since: datetime | None
    last_succeeded_at: datetime | None
    paused_until: datetime | None
    details: Details
    key: DataKey


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner of a destination should know."""

    id: int
    noticed_at: datetime
    what: str  #: failing, disabled, enabled, recovered
    why: str | None


class TooMany(Exception):
    """The account and channel have as many destinations as they may."""


class Destinations:
    """Creates, finds and changes destinations. Every method raises StoreUnavailable."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def create(
        self,
        kind: Kind,
        account: str,
        channel: str | None,
        details: Details,
        *,
        statuses: Sequence[str] | None = None,
        most: int,
        id_: str | None = None,
    ) -> Destination:
        """Return the new destination. Raises TooMany when `most` of its account and channel are there."""
        uid, key = UUID(bytes=urandom(16)), DataKey.generate()
        id_ = id_ or f"{_PREFIXES[kind]}_{urandom(8).hex()}"
        values = {
            "id": id_,
            "uid": uid,
            "kind": kind.value,
            "account": account,
            "channel": channel,
            "statuses": list(statuses) if statuses is not None else None,
            "wrapped": self._ledger.master_key.wrap(key, uid),
            "sealed": _sealed(details, uid, key),
            "most": most,
        }
        with self._ledger.reading() as cursor, cursor.connection.transaction():
            cursor.execute(_ONE_AT_A_TIME, (f"{kind}:{account}:{channel}",))
            row = cursor.execute(_CREATE, values).fetchone()
        if row is None:
            raise TooMany
        return self._opened(row)

    def ensure(self, kind: Kind, id_: str, account: str, statuses: Sequence[str]) -> Destination:
        """Return the destination that the configuration has under this id, as it is configured now, and enabled."""
        try:
            known = self.get(id_) or self.create(kind, account, None, Details(), statuses=statuses, most=1, id_=id_)
        except TooMany:
            known = None  # another process has just made it
        self.change(id_, statuses=statuses)
        if known is None or known.disabled_at is not None:
            self.enable(id_)
        found = self.get(id_)
        assert found is not None  # noqa: S101  # it is only ever disabled
        return found

    def retire(self, kind: Kind, kept: Sequence[str]) -> int:
        """Disable those of a kind that the configuration does not have any more; return how many."""
        with self._ledger.reading() as cursor:
            return cursor.execute(_RETIRE, (Reason.REQUESTED.value, kind.value, list(kept))).rowcount

    def get(self, id_: str) -> Destination | None:
        with self._ledger.reading() as cursor:
            row = cursor.execute(_GET, (id_,)).fetchone()
        return self._opened(row) if row else None

    def of(self, kind: Kind, account: str, channel: str | None) -> list[Destination]:
        """List an account's destinations, oldest first."""
        with self._ledger.reading() as cursor:
            rows = cursor.execute(_OF, (kind.value, account, channel)).fetchall()
        return [self._opened(row) for row in rows]

    def all(self) -> list[Destination]:
        """List every destination, oldest first."""
        with self._ledger.reading() as cursor:
            return [self._opened(row) for row in cursor.execute(_ALL).fetchall()]

    def change(self, id_: str, details: Details | None = None, statuses: Sequence[str] | bool | None = False) -> None:
        """Replace what is sealed (None leaves it) and the statuses wanted (False leaves them)."""
        known = self.get(id_)
        if known is None:
            return
        sealed = _sealed(details, known.uid, known.key) if details is not None else None
        keeps = statuses is False
        wanted = list(statuses) if isinstance(statuses, Sequence) else None
        with self._ledger.reading() as cursor:
            cursor.execute(_CHANGE, {"id": id_, "sealed": sealed, "keeps": keeps, "statuses": wanted})

    def disable(self, id_: str, reason: Reason) -> bool:
        """Tell whether it was enabled. What waits for it is held before long."""
        with self._ledger.reading() as cursor, cursor.connection.transaction():
            done = cursor.execute(_DISABLE, (reason.value, id_)).rowcount == 1
            if done:
                cursor.execute(NOTICE, (id_, "disabled", reason.value))
        return done

    def enable(self, id_: str) -> bool:
        """Tell whether it was disabled. What was held stays so until it is recovered."""
        with self._ledger.reading() as cursor, cursor.connection.transaction():
            done = cursor.execute(_ENABLE, (id_,)).rowcount == 1
            if done:
                cursor.execute(NOTICE, (id_, "enabled", None))
        return done

    def delete(self, id_: str) -> None:
        """Forget a destination, its address and its secrets at once, and before long everything that was sent to it."""
        with self._ledger.reading() as cursor:
            cursor.execute(_DELETE, (id_,))

    def notices(self, id_: str, limit: int, before: int | None = None) -> list[Notice]:
        """Return the newest notices first."""
        with self._ledger.reading() as cursor:
            rows = cursor.execute(_NOTICES, (id_, before, limit)).fetchall()
        return [Notice(id=row[0], noticed_at=row[1], what=row[2], why=row[3]) for row in rows]

    def _opened(self, row: Any) -> Destination:
        (id_, uid, kind, account, channel, statuses, wrapped, sealed, *times) = row
        created_at, changed_at, disabled_at, reason, failures, failing_since, last_succeeded_at, paused_until = times
        key = self._ledger.master_key.unwrap(wrapped, uid)
        return Destination(
            id=id_,
            uid=uid,
            kind=Kind(kind),
            account=account,
            channel=channel,
            statuses=tuple(statuses) if statuses is not None else None,
            created_at=created_at,
            changed_at=changed_at,
            disabled_at=disabled_at,
            disabled_reason=Reason(reason) if reason else None,
            failures=failures,
            failing_since=failing_since,
            last_succeeded_at=last_succeeded_at,
            paused_until=paused_until,
            details=_decode(key.open(sealed, place(uid, 1, _SEALED))),
            key=key,
        )


def _sealed(details: Details, uid: UUID, key: DataKey) -> bytes:
    return key.seal(_encode(details), place(uid, 1, _SEALED))


_PREFIXES: Final = {Kind.WEBHOOK: "wh", Kind.HUBSPOT: "hs"}
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Details).decode
_COLUMNS: Final = """
    id, uid, kind, account, channel, statuses, wrapped, sealed, created_at, changed_at, disabled_at, disabled_reason,
    failures, failing_since, last_succeeded_at,
    CASE WHEN paused_until > clock_timestamp() THEN paused_until END
"""
#: Counting and adding must not be overtaken by another request that does the same.
_ONE_AT_A_TIME: Final = b"SELECT pg_advisory_xact_lock(hashtextextended(%s, 35))"
_CREATE_FORM: Final = """
INSERT INTO destinations (id, uid, kind, account, channel, statuses, wrapped, sealed)
SELECT %(id)s, %(uid)s, %(kind)s, %(account)s, %(channel)s, %(statuses)s::text[], %(wrapped)s, %(sealed)s
 WHERE (SELECT count(*) FROM destinations
         WHERE kind = %(kind)s AND account = %(account)s AND channel IS NOT DISTINCT FROM %(channel)s::text) < %(most)s
ON CONFLICT (id) DO NOTHING
RETURNING {columns}
"""
_CREATE: Final = _CREATE_FORM.format(columns=_COLUMNS).encode()
_FIND: Final = "SELECT {columns} FROM destinations WHERE {where} ORDER BY created_at, id"
_OWN: Final = "kind = %s AND account = %s AND channel IS NOT DISTINCT FROM %s::text"
_GET: Final = _FIND.format(columns=_COLUMNS, where="id = %s AND kind <> 'deleted'").encode()
_ALL: Final = _FIND.format(columns=_COLUMNS, where="kind <> 'deleted'").encode()
_OF: Final = _FIND.format(columns=_COLUMNS, where=_OWN).encode()
_CHANGE: Final = b"""
UPDATE destinations SET sealed = coalesce(%(sealed)s, sealed), changed_at = clock_timestamp(),
       statuses = CASE WHEN %(keeps)s THEN statuses ELSE %(statuses)s::text[] END
 WHERE id = %(id)s
"""
_DISABLE: Final = b"""
UPDATE destinations SET disabled_at = clock_timestamp(), disabled_reason = %s WHERE id = %s AND disabled_at IS NULL
"""
_RETIRE: Final = b"""
UPDATE destinations SET disabled_at = clock_timestamp(), disabled_reason = %s
 WHERE kind = %s AND id <> ALL(%s) AND disabled_at IS NULL
"""
_ENABLE: Final = b"""
UPDATE destinations SET disabled_at = NULL, disabled_reason = NULL, failures = 0, failing_since = NULL,
       paused_until = '-infinity'
 WHERE id = %s AND disabled_at IS NOT NULL
"""
_DELETE: Final = b"""
UPDATE destinations SET kind = 'deleted', sealed = '', wrapped = '',
       disabled_at = coalesce(disabled_at, clock_timestamp())
 WHERE id = %s
"""
NOTICE: Final = b"INSERT INTO destination_notices (destination_id, what, why) VALUES (%s, %s, %s)"
_NOTICES: Final = b"""
SELECT id, noticed_at, what, why FROM destination_notices
 WHERE destination_id = %s AND id < coalesce(%s::bigint, 9223372036854775807) ORDER BY id DESC LIMIT %s
"""

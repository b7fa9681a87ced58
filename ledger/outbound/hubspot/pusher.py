"""Pushes status changes to the contact timelines of HubSpot accounts.

One process at a time pushes to a HubSpot account: it holds a lease of the destination, renewed before every request. So
budgets are kept and what is told of a contact never steps back. A batch is tried first; where one event spoils it, the
events go one by one. That an event is there already is success: it was sent before, and the answer got lost.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import httpcore
import msgspec
import structlog

from ledger.outbound import schedule, telling
from ledger.outbound.deliveries import Claimed, Settlement
from ledger.outbound.guard import Refused, Unresolved
from ledger.outbound.hubspot import bodies
from ledger.outbound.hubspot.api import Forbidden, HubspotApi, HubspotError, Throttled, Told
from ledger.outbound.hubspot.contacts import Contacts, purge
from ledger.outbound.hubspot.settings import Api, HubspotSettings
from ledger.outbound.worker import Outbound, Pusher
from ledger.store.application import StoreUnavailable
from ledger.store.destinations import Destination, Kind, Reason

#: Events in one request.
BATCH_MAX: Final = 50
#: Longer than a request may take, the wait for its budget included.
LEASE_SECONDS: Final = 60.0
#: A contact that is not there may be about to be made: so many tries.
CONTACT_TRIES: Final = 3
_POLL_SECONDS: Final = 0.5
_POSTPONED_SECONDS: Final = 1.0
_PURGE_SECONDS: Final = 3_600.0
_EXCERPT_BYTES: Final = 1_024

_log = structlog.get_logger("ledger.outbound.hubspot")


class _Item:
    """One event that is to be sent."""

    __slots__ = ("change", "claimed", "contact_id", "phone")

    def __init__(self, claimed: Claimed, change: telling.Change, phone: str, contact_id: str) -> None:
        self.claimed = claimed
        self.change = change
        self.phone = phone
        self.contact_id = contact_id

    @property
    def id(self) -> str:
        return bodies.event_id(self.change, self.claimed.resends)


class _LeaseLost(Exception):
    """Another process pushes to this account now. Nothing more is sent under this lease."""


class HubspotPusher:
    """Pushes for one account. See `ledger.outbound.worker.Pusher`."""

    def __init__(self, outbound: Outbound, api: HubspotApi, *, lease_seconds: float = LEASE_SECONDS) -> None:
        self._outbound = outbound
        self._api = api
        self._lease_seconds = lease_seconds
        self.id = destination_id(api.settings.account)
        self._contacts = Contacts(outbound.ledger, self.id, api.settings.account)
        self._destination: Destination | None = None
        self._lease = 0
        self._held: list[Claimed] = []

    async def run(self, stopping: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        purged_at = loop.time()
        while not stopping.is_set():
            pause = _POLL_SECONDS
            try:
                if await self.push():
                    pause = 0.0
                if loop.time() - purged_at > _PURGE_SECONDS:
                    purged_at = loop.time()
                    await self._outbound.store(purge, self._outbound.ledger)
            except StoreUnavailable:
                _log.warning("outbound_postponed")
                pause = _POSTPONED_SECONDS
            except Exception:
                _log.exception("hubspot_failed", account=self._api.settings.account)
                pause = _POSTPONED_SECONDS
            try:
                await asyncio.wait_for(stopping.wait(), pause)
            except TimeoutError:
                continue

    async def push(self) -> bool:
        """Push one batch; tell whether there was anything due."""
        store, deliveries = self._outbound.store, self._outbound.deliveries
        if self._destination is None:
            await self._prepare()
        lease = await store(deliveries.lease, self.id, self._lease_seconds)
        if lease is None:
            return False
        self._lease = lease
        try:
            self._held = await store(
                deliveries.claim,
                Kind.HUBSPOT,
                limit=BATCH_MAX,
                each=BATCH_MAX,
                lease_seconds=self._lease_seconds,
                busy={},
                only=self.id,
            )
            claimed = list(self._held)
            await self._push(claimed)
            return bool(claimed)
        except _LeaseLost:
            _log.warning("hubspot_lease_lost", account=self._api.settings.account)
            return False
        finally:
            left, self._held = self._held, []
            await store(deliveries.release, left)
            await store(deliveries.end_lease, self.id, lease)

    async def _prepare(self) -> None:
        store, settings = self._outbound.store, self._api.settings
        self._destination = await store(
            self._outbound.destinations.ensure, Kind.HUBSPOT, self.id, settings.account, settings.statuses
        )
        await store(self._outbound.deliveries.resume, self.id)

    async def _push(self, claimed: Sequence[Claimed]) -> None:
        try:
            items = [item for each in claimed if (item := await self._item(each)) is not None]
            if len(items) > 1:
                items = await self._batch(items)
            for item in items:
                await self._single(item)
        except Throttled as throttled:
            await self._rest(throttled)
        except (HubspotError, *_ON_THE_WAY) as error:
            await self._unwell(error)

    # One by one -------------------------------------------------------------------------------------------------------

    async def _item(self, claimed: Claimed) -> _Item | None:
        """Return what is to be sent; None if that is settled already."""
        assert self._destination is not None  # noqa: S101  # prepared before anything is claimed
        change = await self._outbound.store(self._outbound.prepare, self._destination, claimed)
        if change is None:
            return None
        phone = change.message.person.recipient
        contact_id = await self._contact(phone) if phone else None
        if phone is None or contact_id is None:
            waits = phone is not None and claimed.tries + 1 < CONTACT_TRIES
            pause = schedule.next_try(claimed.tries + 1) if waits else None
            await self._settle(
                claimed, change, Settlement(outcome="contact_unknown", retry_seconds=pause, is_fault=False)
            )
            return None
        return _Item(claimed, change, phone, contact_id)

    async def _contact(self, phone: str) -> str | None:
        """Return the id of the contact that has a number, as remembered or as searched for."""
        known = await self._outbound.store(self._contacts.recall, phone)
        if known is not None:
            return known.contact_id
        told = await self._call(
            "POST", "/crm/v3/objects/contacts/search", bodies.search(self._api.settings, phone), True
        )
        if not told.is_good:
            raise HubspotError("search_refused", told)
        found = msgspec.json.decode(told.body, type=_Found).results
        contact_id = found[0].id if found else None
        await self._outbound.store(self._contacts.remember, phone, contact_id)
        return contact_id

    async def _batch(self, items: list[_Item]) -> list[_Item]:
        """Send events together; return those that have to go one by one."""
        settings = self._api.settings
        told = await self._call(
            "POST",
            bodies.path(settings.api, is_batch=True),
            {"inputs": [bodies.event(settings, item.change, item.contact_id, item.claimed.resends) for item in items]},
        )
        if not told.is_good:
            return items  # one of them is a duplicate or not valid, and none has been taken
        if settings.api is Api.APP_EVENTS or told.status != 207:
            taken = {item.id for item in items}
        else:
            taken = {result.id for result in msgspec.json.decode(told.body, type=_Found).results}
        for item in items:
            if item.id in taken:
                await self._delivered(item, told)
        return [item for item in items if item.id not in taken]

    async def _single(self, item: _Item) -> None:
        settings = self._api.settings
        event = bodies.event(settings, item.change, item.contact_id, item.claimed.resends)
        told = await self._call("POST", bodies.path(settings.api, is_batch=False), event)
        if told.is_good or told.status == 409:
            await self._delivered(item, told)
            return
        if told.status == 404:  # the contact was merged or deleted: look for it again
            await self._outbound.store(self._contacts.forget, item.phone)
            pause = schedule.next_try(item.claimed.tries + 1) if item.claimed.tries + 1 < CONTACT_TRIES else None
            ended = Settlement(outcome="contact_gone", retry_seconds=pause, is_fault=False, **_answered(told))
        else:
            ended = Settlement(outcome="event_refused", is_fault=False, **_answered(told))
        _log.warning(
            "hubspot_event_refused",
            account=settings.account,
            answer=told.status,
            category=told.error.category,
            correlation_id=told.error.correlation_id,
        )
        await self._settle(item.claimed, item.change, ended)

    async def _delivered(self, item: _Item, told: Told) -> None:
        """Tell the contact's current status, then settle: should we die in between, both are done again."""
        await self._tell_current(item)
        await self._settle(item.claimed, item.change, Settlement(outcome="delivered", **_answered(told)))

    async def _tell_current(self, item: _Item) -> None:
        """Set the contact's properties, unless it has been told of something newer."""
        settings, change, store = self._api.settings, item.change, self._outbound.store
        properties = bodies.current(settings, change)
        if not properties:
            return
        mark = (item.contact_id, change.opened_at, change.message_id, change.version)
        if not await store(self._contacts.is_news, *mark):
            return
        told = await self._call("PATCH", f"/crm/v3/objects/contacts/{item.contact_id}", {"properties": properties})
        if told.is_good:
            await store(self._contacts.told, *mark)
        else:
            _log.warning(
                "hubspot_property_refused",
                account=settings.account,
                answer=told.status,
                category=told.error.category,
                correlation_id=told.error.correlation_id,
            )

    async def _call(self, method: str, path: str, body: Any, is_search: bool = False) -> Told:
        if not await self._outbound.store(
            self._outbound.deliveries.renew, self.id, self._lease, self._lease_seconds, self._held
        ):
            raise _LeaseLost
        return await self._api.call(method, path, body, is_search=is_search)

    # What became of it ------------------------------------------------------------------------------------------------

    async def _settle(self, claimed: Claimed, change: telling.Change | None, ended: Settlement) -> None:
        if change is not None:
            ended = msgspec.structs.replace(
                ended,
                message_id=change.message_id,
                message_version=change.version,
                status=change.message.status.value,
            )
        assert self._destination is not None  # noqa: S101  # prepared before anything is claimed
        self._held = [each for each in self._held if each != claimed]
        await self._outbound.settle(self._destination, claimed, ended)

    async def _rest(self, throttled: Throttled) -> None:
        """A limit has been reached: everything waits, and nobody's attempts are used up."""
        told = throttled.told
        _log.warning(
            "hubspot_throttled",
            account=self._api.settings.account,
            limit=throttled.outcome,
            seconds=round(throttled.seconds),
            correlation_id=told.error.correlation_id if told else "",
        )
        seconds = throttled.seconds * _spread()
        await self._outbound.store(self._outbound.deliveries.pause, self.id, seconds)

    async def _unwell(self, error: Exception) -> None:
        """HubSpot does not answer as it should: what is left is tried again later, or its owner has to help first."""
        told = error.told if isinstance(error, HubspotError) else None
        outcome = error.outcome if isinstance(error, HubspotError) else "not_reached"
        reason = Reason.REFUSED if isinstance(error, Forbidden) else None
        _log.warning(
            "hubspot_unwell",
            account=self._api.settings.account,
            outcome=outcome,
            answer=told.status if told else None,
            category=told.error.category if told else "",
            correlation_id=told.error.correlation_id if told else "",
        )
        for index, each in enumerate(list(self._held)):
            pause = schedule.next_try(each.tries + 1)
            ended = Settlement(
                outcome=outcome,
                retry_seconds=0.0 if reason else pause,
                disables=reason,
                is_fault=index == 0,
                **_answered(told),
            )
            await self._settle(each, None, ended)


class _Result(msgspec.Struct):
    id: str = ""


class _Found(msgspec.Struct):
    results: list[_Result] = []


_ON_THE_WAY: Final = (
    Refused,
    Unresolved,
    TimeoutError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    OSError,
    msgspec.DecodeError,
)


def destination_id(account: str) -> str:
    return f"hubspot:{account}"


def _answered(told: Told | None) -> Mapping[str, Any]:
    return {} if told is None else {"answer": told.status, "excerpt": told.body[:_EXCERPT_BYTES]}


def _spread(draw: Callable[[float, float], float] = random.uniform) -> float:
    """Nobody comes back before the time, and not everybody at once."""
    return draw(1.0, 1.2)


def pushers(accounts: Iterable[HubspotSettings]) -> Callable[[Outbound], list[Pusher]]:
    """Return what makes the pushers of all accounts."""
    return lambda outbound: [HubspotPusher(outbound, HubspotApi(settings, outbound.client)) for settings in accounts]

"""Webhook endpoints, `/v1/webhooks`: where a customer wants to be told of status changes, and what became of it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from ledger.http import queries
from ledger.http.access import REFUSALS, Access, as_problem, secret_of
from ledger.http.edge import Edge
from ledger.http.endpoint_shapes import (
    AttemptShape,
    DeliveryDetail,
    DeliveryPage,
    DeliveryShape,
    EndpointChange,
    EndpointCreated,
    EndpointPage,
    EndpointRequest,
    EndpointShape,
    EndpointStatus,
    NoticePage,
    NoticeShape,
    Recovered,
    RecoverRequest,
    ResendRequest,
    SecretCreated,
    SecretRequest,
    SecretShape,
)
from ledger.http.inputs import decoded, read_body
from ledger.http.problems import Problem, invalid_field, invalid_parameter
from ledger.outbound import signing, telling
from ledger.outbound.deliveries import KEPT_DAYS, Deliveries, Delivery, State
from ledger.outbound.guard import Guard, Refused
from ledger.store.application import Ledger
from ledger.store.destinations import Destination, Destinations, Details, Kind, Reason, Signer, TooMany
from ledger.store.keys import ApiKey

T = TypeVar("T")

#: Endpoints of one account and channel.
ENDPOINTS_MAX: Final = 20
#: Secrets of one endpoint that sign at the same time.
SECRETS_MAX: Final = 4
_NOT_FOUND: Final = "No endpoint of this id is visible to this key."


class Endpoints:
    """Handlers. Each admits the key and does what it has to in one fiber."""

    def __init__(
        self,
        *,
        edge: Edge,
        ledger: Ledger,
        access: Access,
        guard: Guard,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._edge = edge
        self._ledger = ledger
        self._access = access
        self._guard = guard
        self._destinations = Destinations(ledger)
        self._deliveries = Deliveries(ledger)
        self._now = now

    # Endpoints --------------------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        body = await read_body(request)

        def run(key: ApiKey) -> EndpointCreated:
            queries.parameters(request, ())
            told = decoded(body, EndpointRequest)
            self._require_url(told.url)
            secret = _secret(told.secret)
            signer = Signer(secret, self._now())
            details = Details(told.url, told.description, (signer,))
            try:
                made = self._destinations.create(
                    Kind.WEBHOOK,
                    key.account,
                    key.channel.value,
                    details,
                    statuses=None if told.statuses is None else [status.value for status in told.statuses],
                    most=ENDPOINTS_MAX,
                )
            except TooMany:
                raise Problem("too_many_endpoints", f"The limit is {ENDPOINTS_MAX} for a key's channel.") from None
            return EndpointCreated(secret=secret, **_fields(made, self._now()))

        made = await self._admitted(request, run)
        return _json(made, 201, headers={"location": f"/v1/webhooks/{made.id}"})

    async def all(self, request: Request) -> Response:
        def run(key: ApiKey) -> EndpointPage:
            queries.parameters(request, ())
            found = self._destinations.of(Kind.WEBHOOK, key.account, key.channel.value)
            return EndpointPage(items=[EndpointShape(**_fields(each, self._now())) for each in found])

        return _json(await self._admitted(request, run))

    async def get(self, request: Request) -> Response:
        def run(key: ApiKey) -> EndpointStatus:
            queries.parameters(request, ())
            return self._status(self._visible(request, key))

        return _json(await self._admitted(request, run))

    async def change(self, request: Request) -> Response:
        body = await read_body(request)

        def run(key: ApiKey) -> EndpointStatus:
            queries.parameters(request, ())
            told, known = decoded(body, EndpointChange), self._visible(request, key)
            details = known.details
            if told.url is not UNSET:
                self._require_url(told.url)
                details = Details(told.url, details.description, details.signers)
            if told.description is not UNSET:
                details = Details(details.url, told.description, details.signers)
            changed = details if details != known.details else None
            if told.statuses is UNSET:
                self._destinations.change(known.id, changed)
            else:
                wanted = None if told.statuses is None else [status.value for status in told.statuses]
                self._destinations.change(known.id, changed, wanted)
            if told.enabled is True:
                self._destinations.enable(known.id)
            elif told.enabled is False:
                self._destinations.disable(known.id, Reason.REQUESTED)
            return self._status(self._visible(request, key))

        return _json(await self._admitted(request, run))

    async def delete(self, request: Request) -> Response:
        def run(key: ApiKey) -> None:
            queries.parameters(request, ())
            self._destinations.delete(self._visible(request, key).id)

        await self._admitted(request, run)
        return Response(status_code=204)

    async def add_secret(self, request: Request) -> Response:
        body = await read_body(request)

        def run(key: ApiKey) -> SecretCreated:
            queries.parameters(request, ())
            told, known, now = decoded(body, SecretRequest), self._visible(request, key), self._now()
            secret, end = _secret(told.secret), now + timedelta(seconds=told.keep_old_seconds)
            old = [
                Signer(each.secret, each.created_at, min(each.until or end, end))
                for each in signing.in_use(known.details.signers, now)
                if each.secret != secret
            ]
            kept = [each for each in old if each.until is not None and each.until > now][: SECRETS_MAX - 1]
            signers = (Signer(secret, now), *kept)
            self._destinations.change(known.id, Details(known.details.url, known.details.description, signers))
            return SecretCreated(secret=secret, secrets=_secrets(signers, now))

        return _json(await self._admitted(request, run), 201)

    async def notices(self, request: Request) -> Response:
        def run(key: ApiKey) -> NoticePage:
            told = queries.parameters(request, ("cursor", "limit"))
            known, count = self._visible(request, key), queries.limit(told)
            found = self._destinations.notices(known.id, count + 1, _number(told))
            items = [
                NoticeShape(id=each.id, noticed_at=each.noticed_at, what=each.what, why=each.why) for each in found
            ]
            more = len(items) > count
            return NoticePage(items=items[:count], next_cursor=str(items[count - 1].id) if more else None)

        return _json(await self._admitted(request, run))

    # Deliveries -------------------------------------------------------------------------------------------------------

    async def deliveries(self, request: Request) -> Response:
        def run(key: ApiKey) -> DeliveryPage:
            told = queries.parameters(request, ("state", "cursor", "limit"))
            known, count, before = self._visible(request, key), queries.limit(told), queries.decode_cursor(told)
            states = [word for word in told.get("state", "").split(",") if word]
            if any(word not in [state.value for state in State] for word in states):
                raise invalid_parameter("state", f"must be among {', '.join(State)}")
            found = self._deliveries.newest(known.id, states, before=before, limit=count + 1)
            page, more = found[:count], len(found) > count
            cursor = queries.encode_cursor(page[-1].recorded_at, page[-1].position) if more else None
            return DeliveryPage(items=[DeliveryShape(**self._shown(each)) for each in page], next_cursor=cursor)

        return _json(await self._admitted(request, run))

    async def delivery(self, request: Request) -> Response:
        def run(key: ApiKey) -> DeliveryDetail:
            queries.parameters(request, ())
            return self._detail(request, key)

        return _json(await self._admitted(request, run))

    async def resend(self, request: Request) -> Response:
        body = await read_body(request)

        def run(key: ApiKey) -> DeliveryDetail:
            queries.parameters(request, ())
            known, (partition, position) = self._visible(request, key), _place(request)
            told = decoded(body, ResendRequest)
            self._require_enabled(known)
            if not self._deliveries.resend(known.id, partition, position, as_new=told.as_new):
                raise Problem("not_found", "No delivery of this id belongs to this endpoint.")
            return self._detail(request, key)

        return _json(await self._admitted(request, run), 202)

    async def recover(self, request: Request) -> Response:
        body = await read_body(request)

        def run(key: ApiKey) -> Recovered:
            queries.parameters(request, ())
            told, known = decoded(body, RecoverRequest), self._visible(request, key)
            if told.since < self._now() - timedelta(days=KEPT_DAYS):
                raise invalid_field("since", f"must not be more than {KEPT_DAYS} days ago")
            if told.until is not None and told.until <= told.since:
                raise invalid_field("until", "must be later than since")
            self._require_enabled(known)
            found = self._deliveries.recover(known.id, told.since, told.until, all_states=told.delivered)
            return Recovered(count=found[0], complete=found[1])

        return _json(await self._admitted(request, run), 202)

    # Shared -----------------------------------------------------------------------------------------------------------

    async def _admitted(self, request: Request, then: Callable[[ApiKey], T]) -> T:
        secret = secret_of(request)

        def admit_and_then() -> T:
            return then(self._access.admit(secret))

        try:
            return await self._edge.read(admit_and_then)
        except REFUSALS as refused:
            raise as_problem(refused) from None

    def _visible(self, request: Request, key: ApiKey) -> Destination:
        """Return the endpoint that the path names. One of another account or channel does not exist for the key."""
        id_ = request.path_params["endpoint_id"]
        found = self._destinations.get(id_) if re.fullmatch(r"wh_[0-9a-f]{16}", id_) else None
        if found is None or found.account != key.account or found.channel != key.channel.value:
            raise Problem("not_found", _NOT_FOUND)
        return found

    def _require_url(self, url: str) -> None:
        try:
            self._guard.check_url(url)
        except Refused as refused:
            raise invalid_field("url", str(refused)) from None

    def _require_enabled(self, known: Destination) -> None:
        if known.disabled_at is not None:
            raise Problem("endpoint_disabled", "Enable it first; what was held can be recovered then.")

    def _status(self, known: Destination) -> EndpointStatus:
        return EndpointStatus(deliveries=self._deliveries.counts(known.id), **_fields(known, self._now()))

    def _detail(self, request: Request, key: ApiKey) -> DeliveryDetail:
        known, (partition, position) = self._visible(request, key), _place(request)
        found = self._deliveries.get(known.id, partition, position)
        if found is None:
            raise Problem("not_found", "No delivery of this id belongs to this endpoint.")
        log = [
            AttemptShape(
                number=each.number,
                attempted_at=each.attempted_at,
                milliseconds=each.milliseconds,
                outcome=each.outcome,
                answer=each.answer,
                body=each.excerpt.decode("utf-8", "replace"),
            )
            for each in self._deliveries.attempts(known, partition, position)
        ]
        return DeliveryDetail(log=log, **self._shown(found))

    def _shown(self, told: Delivery) -> dict[str, Any]:
        """Return the fields of a delivery. One that was never attempted is looked up: nobody has noted its name yet."""
        message_id, version, status = told.message_id, told.message_version, told.status
        if message_id is None:
            change = telling.tell(self._ledger, told.stream_id, told.version)
            if change is not None:
                message_id, version, status = change.message_id, change.version, change.message.status.value
        again = f"_r{told.resends}" if told.resends else ""
        return {
            "id": f"{told.partition}-{told.position}",
            "webhook_id": None if message_id is None else f"evt_{message_id}_{version}{again}",
            "message_id": message_id,
            "version": version,
            "status": status,
            "state": told.state.value,
            "why": told.why,
            "attempts": told.attempts,
            "recorded_at": told.recorded_at,
            "next_at": told.next_at,
            "settled_at": told.settled_at,
        }


def _fields(told: Destination, now: datetime) -> dict[str, Any]:
    return {
        "id": told.id,
        "url": told.details.url,
        "description": told.details.description,
        "account": told.account,
        "channel": told.channel,
        "statuses": told.statuses,
        "enabled": told.disabled_at is None,
        "disabled_at": told.disabled_at,
        "disabled_reason": told.disabled_reason.value if told.disabled_reason else None,
        "failures": told.failures,
        "failing_since": told.failing_since,
        "last_succeeded_at": told.last_succeeded_at,
        "paused_until": told.paused_until,
        "secrets": _secrets(told.details.signers, now),
        "created_at": told.created_at,
        "changed_at": told.changed_at,
    }


def _secrets(signers: tuple[Signer, ...], now: datetime) -> tuple[SecretShape, ...]:
    return tuple(SecretShape(created_at=each.created_at, until=each.until) for each in signing.in_use(signers, now))


def _secret(told: str | None) -> str:
    if told is None:
        return signing.new_secret()
    try:
        signing.key_of(told)
    except ValueError as error:
        raise invalid_field("secret", str(error)) from None
    return told


def _place(request: Request) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]{1,3})-([0-9]{1,16})", request.path_params["delivery_id"])
    if match is None:
        raise Problem("not_found", "No delivery of this id belongs to this endpoint.")
    return int(match[1]), int(match[2])


def _number(told: dict[str, str]) -> int | None:
    text = told.get("cursor")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise invalid_parameter("cursor", "must be a next_cursor of an earlier answer")
    return int(text)


def _json(answer: msgspec.Struct, status: int = 200, **kwargs: Any) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json", **kwargs)

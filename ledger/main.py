"""Builds everything; holds no logic of its own. The environment is read in `ledger.environment`."""

import gc
import hmac
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Final

import msgspec

from ledger.config import Settings
from ledger.domain.identity import Names
from ledger.environment import OnEvent, database, read, settings, signer, with_secrets
from ledger.http import metrics
from ledger.http.access import Access
from ledger.http.api import NativeApi
from ledger.http.app import Application
from ledger.http.app import build as build_http
from ledger.http.broadcast import Broadcaster
from ledger.http.compat import CompatApi
from ledger.http.edge import Edge
from ledger.http.endpoints import Endpoints
from ledger.http.evidence import EvidenceApi
from ledger.http.health import Health
from ledger.http.intercom import IntercomApp
from ledger.http.opening import Opener
from ledger.http.reports import ReportsApi
from ledger.http.streams import Streams
from ledger.http.traffic import Counter
from ledger.http.webhooks import Webhooks
from ledger.ingest.accept import Intake
from ledger.ingest.accept import intakes as make_intakes
from ledger.ingest.erase import Eraser
from ledger.ingest.writer import Deliver, Job, Writer
from ledger.outbound.erasing import forget as forget_sent
from ledger.outbound.guard import Guard
from ledger.outbound.hubspot.pusher import destination_id, pushers
from ledger.outbound.webhooks import Client
from ledger.outbound.worker import THREADS, Outbound, OutboundThread
from ledger.polling.worker import Poller
from ledger.providers import PROVIDERS
from ledger.screens.building import screens
from ledger.store import rotation
from ledger.store.application import Ledger
from ledger.store.checkpoints import log_name
from ledger.store.destinations import Destinations, Kind
from ledger.store.erasing import Erasing
from ledger.store.keys import ApiKeys
from ledger.store.polls import forget as forget_answers
from ledger.store.rate_limits import RateLimiter
from ledger.store.rotation import Progress
from ledger.store.scrubs import Scrub
from ledger.store.sealing import MasterKey
from ledger.wire.contract import Secret
from projections import current_status
from projections.feed import Feed
from projections.registry import PROJECTIONS
from projections.reporting import Reporting

__all__ = [
    "OnEvent",
    "Parts",
    "application",
    "build",
    "database",
    "read",
    "settings",
    "tune",
    "with_secrets",
]


#: What an erasure removes besides keys and its own rows: whatever keeps anything of a person is listed here.
SCRUBS: Final[tuple[Scrub, ...]] = (
    Scrub("outbound", lambda cursor, erased: forget_sent(cursor, [each.stream_id for each in erased])),
    Scrub("poll_answers", lambda cursor, erased: forget_answers(cursor, [each.stream_id for each in erased])),
)


class Parts(msgspec.Struct, frozen=True):
    """What commands and the HTTP application are made of."""

    settings: Settings
    names: Names
    ledger: Ledger
    keys: ApiKeys
    messages: current_status.CurrentStatus
    feed: Feed
    reporting: Reporting

    def writer(self, deliver: Deliver) -> Writer:
        """Return a writer whose every batch is followed at once by the feed, if that runs in this process."""

        def delivered(jobs: list[Job]) -> None:
            deliver(jobs)
            self.feed.wake()

        project = partial(current_status.row, self.names)
        return Writer(self.ledger, project, delivered, queue_max=self.settings.queue_max)

    def erasing(self) -> Erasing:
        return Erasing(self.ledger, SCRUBS)

    def eraser(self) -> Eraser:
        """Build what erases. Raises StoreUnavailable."""
        with self.ledger.reading() as cursor:
            log = log_name(cursor)
        return Eraser(
            self.ledger,
            self.erasing(),
            project=partial(current_status.row, self.names),
            list_=self.settings.erasures_file,
            log=log,
            sign=lambda text: signer(self.settings).sign(text, log),
        )

    def rotate_master_key(self, progress: Progress) -> dict[str, int]:
        """Wrap every data key by the present master key; see `ledger.store.rotation`."""
        assert self.settings.master_key is not None  # noqa: S101  # with_secrets ran
        return rotation.rotate(self.ledger, _fingerprint(self.settings.master_key), progress)

    def close(self) -> None:
        self.ledger.close()


def _fingerprint(secret: Secret) -> str:
    return hmac.digest(secret.reveal(), b"status-ledger fingerprint", "sha256").hex()


def tune() -> None:
    """Prepare a process that serves.

    Requests leave no cycles behind: looking for some after every 700 objects, as is the default, would be a seventh of
    its work for nothing.
    """
    gc.set_threshold(50_000, 20, 50)
    # Every stream is a connection. What a process may have is often more than what it is given.
    given, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if given != allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))


@lru_cache(1)
def _master_key(key: Secret, other: Secret | None) -> MasterKey:
    """Return one for all parts of a process: the data keys that it remembers take 45 MB."""
    return MasterKey(key, other)


def build(told: Settings, database_url: str, *, pool_size: int = 8) -> Parts:
    """Build the parts over a migrated database. Raises WrongSecret and StoreUnavailable."""
    assert told.master_key is not None  # noqa: S101  # with_secrets ran
    assert told.deployment_secret is not None  # noqa: S101
    names = Names(told.deployment_secret.reveal())
    ledger = Ledger(
        database_url,
        partitions=told.partitions,
        names=names,
        master_key=_master_key(told.master_key, told.master_key_other),
        pool_size=pool_size,
    )
    secrets = {
        "LEDGER_DEPLOYMENT_SECRET": _fingerprint(told.deployment_secret),
        "LEDGER_MASTER_KEY": _fingerprint(told.master_key),
    }
    other = told.master_key_other
    try:
        ledger.require_secrets(secrets, {} if other is None else {"LEDGER_MASTER_KEY": _fingerprint(other)})
    except BaseException:
        ledger.close()
        raise
    return Parts(
        settings=told,
        names=names,
        ledger=ledger,
        keys=ApiKeys(ledger, told.deployment_secret.reveal()),
        messages=current_status.CurrentStatus(ledger),
        feed=Feed(ledger, PROJECTIONS),
        reporting=Reporting(
            ledger,
            accounts={name: account.provider for name, account in told.accounts.items()},
            expected_seconds={
                name: account.expected_seconds
                for name, account in told.accounts.items()
                if account.expected_seconds is not None
            },
        ),
    )


def application(
    parts: Parts, *, multiprocess: bool = False, draining: Callable[[], bool] = lambda: False
) -> Application:
    """Build the HTTP application over the parts."""
    told = parts.settings
    assert told.deployment_secret is not None  # noqa: S101  # with_secrets ran
    edge, opener = Edge(parts.writer), Opener()
    traffic = Counter(edge, parts.ledger, lambda: datetime.now(UTC))
    accounts = {
        name: msgspec.structs.replace(account, certificates=opener.certificate)
        for name, account in told.accounts.items()
    }
    limit = told.rate_limit
    limiter = RateLimiter(parts.ledger, limit.requests, limit.seconds) if limit else None
    access = Access(parts.keys, limiter)
    broadcaster = Broadcaster(
        edge, parts.ledger, parts.keys, streams_max=told.streams_max, pulse_seconds=told.stream_pulse_seconds
    )
    return build_http(
        edge=edge,
        webhooks=Webhooks(
            make_intakes(accounts, PROVIDERS, parts.names, keeps_items=told.keeps_items),
            edge,
            body_bytes_max=told.body_bytes_max,
            confirm=opener.confirm,
            count=traffic.count,
            refused=traffic.refused,
        ),
        api=NativeApi(
            edge=edge,
            ledger=parts.ledger,
            access=access,
            messages=parts.messages,
            accounts=accounts,
            providers=PROVIDERS,
            public_url=told.public_url,
            recurring=parts.reporting.is_recurring,
        ),
        compat=CompatApi(edge=edge, access=access, messages=parts.messages),
        evidence=EvidenceApi(edge, parts.ledger, signer(told).public_key),
        streams=Streams(
            edge=edge,
            ledger=parts.ledger,
            access=access,
            messages=parts.messages,
            broadcaster=broadcaster,
            public_url=told.public_url,
        ),
        intercom=IntercomApp(edge=edge, ledger=parts.ledger, messages=parts.messages, settings=told.intercom),
        endpoints=Endpoints(edge=edge, ledger=parts.ledger, access=access, guard=Guard(told.outbound_allow or ())),
        health=Health(edge, parts.ledger, multiprocess=multiprocess, draining=draining),
        reports=ReportsApi(edge=edge, access=access, reporting=parts.reporting),
        traffic=traffic,
        screens=screens(
            edge=edge,
            ledger=parts.ledger,
            keys=parts.keys,
            messages=parts.messages,
            broadcaster=broadcaster,
            public_key=signer(told).public_key,
            users=told.users,
            deployment_secret=told.deployment_secret.reveal(),
            public_url=told.public_url,
            reporting=parts.reporting,
            projections=PROJECTIONS,
            accounts=told.accounts,
        ),
    )


def intakes(parts: Parts) -> dict[str, Intake]:
    """Return what every account's statements come in by."""
    told = parts.settings
    return make_intakes(told.accounts, PROVIDERS, parts.names, keeps_items=told.keeps_items)


def polls(told: Settings) -> bool:
    """Tell whether there is an account whose provider can be asked."""
    return any(account.poll is not None for account in told.accounts.values())


def poller(parts: Parts) -> Poller:
    """Build the poller over parts of its own: it and the callbacks must not wait for each other's connections."""
    return Poller(parts.ledger, parts.writer, intakes(parts))


@contextmanager
def outbound(told: Settings, database_url: str) -> Iterator[None]:
    """Tell destinations of status changes while the context lasts, with connections of its own."""
    parts = build(told, database_url, pool_size=THREADS)
    guard = Guard(told.outbound_allow or ())
    thread = OutboundThread(
        lambda: Outbound(parts.ledger, Client(guard), pushers=pushers(told.hubspot), count=metrics.count_attempt)
    )
    try:
        kept = [destination_id(each.account) for each in told.hubspot]
        Destinations(parts.ledger).retire(Kind.HUBSPOT, kept)
        thread.start()
        yield
    finally:
        thread.stop()
        parts.close()

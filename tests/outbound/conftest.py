"""A ledger, an endpoint and somebody who carries status changes from one to the other."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest

from ledger.domain.message import Command, Observe
from ledger.domain.observation import Source
from ledger.domain.status import Status
from ledger.ingest.writer import Statement
from ledger.outbound.deliveries import Deliveries
from ledger.outbound.guard import Guard
from ledger.outbound.signing import new_secret
from ledger.outbound.webhooks import Client, WebhookSender
from ledger.outbound.worker import Outbound
from ledger.store.application import Ledger
from ledger.store.destinations import Destination, Destinations, Details, Kind, Signer
from projections.status_changes import STATUS_CHANGES
from tests.builders import NAMES, a_receipt, link_command, observe_command
from tests.outbound.receiver import Receiver, receiving
from tests.plugins.ledger import Pen
from tests.projections.following import follow

#: Everything that waits for a time.
_CLOCKS = {
    "deliveries": ("next_at", "leased_until"),
    "destinations": ("paused_until", "failing_since", "last_failed_at", "leased_until"),
}
LOOPBACK = ip_network("127.0.0.0/8")
CHANNEL = "sms"

_numbers = itertools.count(1)


class Rig:
    """What a test of outbound webhooks needs: an account of its own, in a ledger that a module's tests share."""

    def __init__(self, ledger: Ledger, pen: Pen, receiver: Receiver) -> None:
        self.account = f"account-{next(_numbers)}"
        self.ledger = ledger
        self.pen = pen
        self.receiver = receiver
        self.destinations = Destinations(ledger)
        self.deliveries = Deliveries(ledger)

    def endpoint(self, url: str | None = None, **told: Any) -> Destination:
        signers = told.pop("signers", None) or (Signer(new_secret(), datetime.now(UTC)),)
        details = Details(url or self.receiver.url, "", signers)
        return self.destinations.create(
            told.pop("kind", Kind.WEBHOOK),
            told.pop("account", self.account),
            told.pop("channel", CHANNEL),
            details,
            most=100,
            **told,
        )

    def stream(self, reference: str = "reference-1") -> UUID:
        return NAMES.stream_id(self.account, reference)

    def report(self, *claims: Status, reference: str = "reference-1", **said: Any) -> UUID:
        """Record what a provider says about a message, one statement after the other."""
        stream_id = self.stream(reference)
        for claim in claims:
            self.write(stream_id, self.observe(claim, reference=reference, **said))
        return stream_id

    def observe(self, claim: Status, **said: Any) -> Observe:
        return observe_command(claim, receipt=a_receipt(account=self.account), **said)

    def write(self, stream_id: UUID, command: Command) -> None:
        self.pen.write(Statement(stream_id, command))

    def hand_off(self, own: UUID, theirs: UUID, message_id: int) -> None:
        """Link a message of the sender's to the stream that the provider tells of."""
        receipt = a_receipt(account=self.account, source=Source.SENDER)
        leaves = Statement(own, link_command(theirs, leads=False, other_message_id=None, receipt=receipt))
        leads = link_command(own, other_message_id=message_id, receipt=receipt)
        self.pen.write(leaves, Statement(theirs, leads))

    def follow(self) -> None:
        """Derive the status changes of everything that is on record."""
        follow(self.ledger, projection=STATUS_CHANGES)

    # Sending ----------------------------------------------------------------------------------------------------------

    def outbound(self, **options: Any) -> Outbound:
        guard = options.pop("guard", Guard([LOOPBACK]))
        client = options.pop("client", None) or Client(guard, seconds_max=options.pop("seconds_max", 5.0))
        if "now" in options:
            options["sender"] = WebhookSender(client, options.pop("now"))
        return Outbound(self.ledger, client, **options)

    def send(self, **options: Any) -> None:
        """Do everything that is due, until nothing is."""
        self.follow()

        async def run() -> None:
            outbound = self.outbound(**options)
            try:
                while await outbound.step() or outbound._attempts:
                    await outbound.idle()
                    outbound._look_at = 0.0
            finally:
                await outbound.client.close()
                outbound._threads.shutdown()

        asyncio.run(run())

    def pass_time(self, seconds: float = 3 * 86_400) -> None:
        """Let time pass for everything that waits: all its times move back."""
        for table, columns in _CLOCKS.items():
            moved = ", ".join(f"{column} = {column} - make_interval(secs => %s)" for column in columns)
            self.execute(f"UPDATE {table} SET {moved}", *[seconds] * len(columns))  # noqa: S608  # names of our own

    def execute(self, statement: str, *parameters: object) -> Sequence[Any]:
        with self.ledger.reading() as cursor:
            cursor.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def states(self, destination: Destination) -> list[str]:
        """Return the state of each delivery, oldest change first."""
        found = self.deliveries.newest(destination.id, [], before=None, limit=1_000)
        return [each.state.value for each in reversed(found)]

    def outcomes(self, destination: Destination) -> list[str]:
        """Return how every attempt ended, delivery by delivery, oldest change first."""
        found = self.deliveries.newest(destination.id, [], before=None, limit=1_000)
        return [
            attempt.outcome
            for each in reversed(found)
            for attempt in self.deliveries.attempts(destination, each.partition, each.position)
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def module_pen(module_ledger: Ledger) -> Iterator[Pen]:
    """The writer of a module's ledger."""
    pen = Pen(module_ledger)
    yield pen
    pen.writer.close()


@pytest.fixture
def rig(module_ledger: Ledger, module_pen: Pen, receiver: Receiver) -> Rig:
    rig = Rig(module_ledger, module_pen, receiver)
    rig.execute("DELETE FROM destinations")  # those of tests before, with all that hangs on them
    return rig

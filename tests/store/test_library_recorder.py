"""The library's own test cases for recorders, run against ours.

Left out, each because its contract is another one:
* AggregateRecorderTestCase expects `insert_events` to return nothing, and an application recorder returns notification
  ids. It runs here against a recorder that hides them; everything else it asks for holds.
* TrackingRecorderTestCase, ProcessRecorderTestCase: projections keep cursors of their own, in their own tables.
* InfrastructureFactoryTestCase but for the application recorder: ciphers, compressors and the other kinds of recorders
  are not offered. The mapper has its own tests (`test_mapper`).
* TranscoderTestCase: events are MessagePack; the library's transcoder is never used.
* Every `test_performance` measures and prints; it asserts nothing.
"""

from collections.abc import Sequence
from itertools import islice
from threading import Event, Thread
from typing import Any
from unittest import TestCase
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import (
    ApplicationRecorder,
    InfrastructureFactory,
    Notification,
    ProgrammingError,
    StoredEvent,
)
from eventsourcing.tests import persistence
from eventsourcing.utils import Environment, get_topic

from ledger.store.application import Ledger
from ledger.store.recorder import LedgerFactory, LedgerRecorder
from tests.plugins.ledger import SHAPES, OpenLedger


class OverTheLedger(TestCase):
    """Gives the library's test cases a recorder over this test's own database."""

    url: str
    recorder: LedgerRecorder

    @pytest.fixture(autouse=True)
    def _recorder(self, database_url: str, open_ledger: OpenLedger) -> None:
        self.url = database_url
        self.recorder = open_ledger(database_url, pool_size=8).recorder

    def create_recorder(self) -> LedgerRecorder:
        return self.recorder


class TestApplicationRecorder(OverTheLedger, persistence.ApplicationRecorderTestCase):
    test_performance = None

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleavingNotificationIDs(OverTheLedger, persistence.NonInterleavingNotificationIDsBaseCase):
    pass


class SilentRecorder(LedgerRecorder):
    """Hides the notification ids."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super().insert_events(stored_events, **kwargs)


class TestAggregateRecorder(OverTheLedger, persistence.AggregateRecorderTestCase):
    test_performance = None

    def create_recorder(self) -> SilentRecorder:
        return SilentRecorder(self.recorder.datastore, self.recorder.partitions)


class TestInfrastructureFactory(OverTheLedger, persistence.InfrastructureFactoryTestCase[LedgerFactory]):
    test_mapper = None
    test_mapper_with_compressor = None
    test_mapper_with_cipher = None
    test_mapper_with_cipher_and_compressor = None
    test_mapper_with_wrong_cipher_key = None
    test_create_aggregate_recorder = None
    test_create_tracking_recorder = None
    test_create_process_recorder = None

    def setUp(self) -> None:
        told = {"PERSISTENCE_MODULE": get_topic(LedgerFactory), LedgerFactory.DATABASE_URL: self.url}
        self.env = Environment("Ledger", told)
        super().setUp()

    def expected_factory_class(self) -> type[LedgerFactory]:
        return LedgerFactory

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return LedgerRecorder

    def expected_aggregate_recorder_class(self) -> Any:
        raise NotImplementedError

    expected_tracking_recorder_class = expected_aggregate_recorder_class
    expected_process_recorder_class = expected_aggregate_recorder_class
    tracking_recorder_subclass = expected_aggregate_recorder_class


def test_a_factory_without_a_database_url_refuses() -> None:
    environment = Environment("Ledger", {"PERSISTENCE_MODULE": get_topic(LedgerFactory)})

    with pytest.raises(OSError, match="DATABASE_URL is not set"):
        InfrastructureFactory.construct(environment)


def an_event(version: int = 1, stream_id: UUID | None = None, topic: str = "topic") -> StoredEvent:
    return StoredEvent(stream_id or uuid4(), version, topic, b"state")


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape.partitions > 1], ids=str)
def test_an_order_over_several_partitions_is_not_pretended(shaped_ledger: Ledger) -> None:
    with pytest.raises(ProgrammingError, match="order per partition"):
        shaped_ledger.recorder.select_notifications(None, 10)


def test_a_subscription_wakes_up_for_events_recorded_later(ledger: Ledger) -> None:
    """The reader is waiting on an empty ledger when the event comes; its thread ends only by getting it."""
    entered, received = Event(), []

    def read() -> None:
        with ledger.recorder.subscribe(gt=0) as subscription:
            entered.set()
            received.append(next(subscription))

    reader = Thread(target=read)
    reader.start()
    entered.wait()
    event = an_event()
    ledger.recorder.insert_events([event])
    reader.join()

    assert received == [Notification(event.originator_id, 1, "topic", b"state", 1)]


def test_stopping_a_subscription_from_elsewhere_ends_its_reader(ledger: Ledger) -> None:
    subscription = ledger.recorder.subscribe()
    reader = Thread(target=lambda: list(subscription))
    reader.start()

    subscription.stop()
    reader.join()

    assert not reader.is_alive()


def test_a_subscription_reads_on_beyond_its_first_page(ledger: Ledger) -> None:
    stream_id = uuid4()
    ledger.recorder.insert_events([an_event(version, stream_id) for version in range(1, 701)])

    with ledger.recorder.subscribe(gt=100) as subscription:
        positions = [notification.id for notification in islice(subscription, 600)]

    assert positions == list(range(101, 701))

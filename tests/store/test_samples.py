"""Old stored events load for ever: one sample of every name ever written, as it lay in the database.

A sample is the `state` of an event, written once under `STREAM`, version 1 and `KEY`, and never written again. A new
name needs a new sample and what it says, and so does a new field of a name (`<name>+<field>`); the others stay, and
read as the event of today. To add one, store the event with `LedgerMapper` and write the state to `samples/<name>.bin`.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import pytest
from eventsourcing.persistence import StoredEvent

from ledger.domain.events import (
    NAMES,
    AnyEvent,
    MessageErased,
    MessageLinked,
    MessageRegistered,
    ObservedDetails,
    RegisteredDetails,
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.message import Message, evolve
from ledger.domain.observation import Part, Source
from ledger.domain.status import Channel, FailureKind, Outcome, Status, Verdict
from ledger.store import snapshot
from ledger.store.mapper import LAYOUTS, LedgerMapper
from ledger.store.sealing import DataKey

SAMPLES: Final = Path(__file__).with_name("samples")
STREAM: Final = UUID("00112233-4455-5677-8899-aabbccddeeff")
KEY: Final = DataKey(bytes(range(32)))

_NOON: Final = datetime(2025, 3, 1, 12, tzinfo=UTC)

_OBSERVED: Final = StatusObserved(
    account="meta-main",
    provider="meta",
    channel=Channel.WHATSAPP,
    key=bytes(range(16)),
    source=Source.POLL,
    claim=Status.FAILED,
    kind=FailureKind.UNDELIVERED,
    closes=True,
    recognised=False,
    verdict=Verdict.ADVANCE,
    skipped=(Status.SENT,),
    status_before=Status.QUEUED,
    status_after=Status.FAILED,
    kind_after=FailureKind.UNDELIVERED,
    occurred_at=_NOON + timedelta(microseconds=1),
    believed=False,
    received_at=_NOON + timedelta(seconds=2),
    event_id="event-1",
    date_text="2503011200",
    error_code="131026",
    transport="rcs",
    provider_account="106540352242922",
    request_digest=bytes(range(32)),
    item_digest=bytes(range(32, 64)),
    rules=7,
    personal=ObservedDetails(
        provider_message_id="wamid.HBgLMTU1NTAxMDAxMjM=",
        provider_status="Failed",
        error_text="Message undeliverable — ÿ \N{SLIGHTLY SMILING FACE}",
        recipient="+15550100123",
        recipient_raw="15550100123",
        recipient_user_id="US.13491208655302741918",
        participant="15550100124",
        client_reference="order-1",
        item=b'{"id":"wamid.HBgLMTU1NTAxMDAxMjM="}\x00\xff',
    ),
)

_OBSERVED_OF_A_PART: Final = msgspec.structs.replace(_OBSERVED, part=Part(2, 3), country="US")

_REGISTERED: Final = MessageRegistered(
    account="twilio-main",
    provider="twilio",
    channel=Channel.VIBER,
    registration=bytes(range(16, 32)),
    queued_at=_NOON,
    received_at=_NOON + timedelta(seconds=1),
    personal=RegisteredDetails(
        provider_message_id="SM00000000000000000000000000000001",
        recipient="+15550100123",
        client_reference="order-2",
        conversation_id="conversation-1",
        conversation_part_id="part-1",
        metadata={"campaign": "spring", "": "empty"},
    ),
)
_LINKED: Final = MessageLinked(
    account="viber-main",
    provider="viber",
    channel=Channel.VIBER,
    other=UUID("ffeeddcc-bbaa-5988-8766-554433221100"),
    leads=True,
    other_message_id=2**53 - 1,
    received_at=_NOON,
    personal=RegisteredDetails(
        provider_message_id="5741311803571721087",
        recipient="+15550100123",
        client_reference="order-3",
        conversation_id="conversation-2",
        conversation_part_id="part-2",
        metadata={"campaign": "autumn"},
    ),
)

#: What each sample says. Every field has a value of its own, so that none can be lost unseen.
SAID: Final[dict[str, AnyEvent]] = {
    "observed.v1": _OBSERVED,
    "observed.v2": _OBSERVED_OF_A_PART,
    "registered.v1": _REGISTERED,
    "registered.v1+country": msgspec.structs.replace(_REGISTERED, country="CA"),
    "linked.v1": _LINKED,
    "linked.v1+country": msgspec.structs.replace(_LINKED, country="CA"),
    "corrected.v1": StatusCorrected(
        account="meta-main",
        provider="meta",
        channel=Channel.WHATSAPP,
        correction=bytes(range(16, 32)),
        to=Outcome.DELIVERED,
        by="operator-1",
        why="The recipient answered.",
        relied_on=(3, 2**40),
        status_before=Status.FAILED,
        status_after=Status.READ,
        kind_after=FailureKind.FAILED,
        received_at=_NOON,
    ),
    "erased.v1": MessageErased(
        account="meta-main",
        provider="meta",
        channel=Channel.WHATSAPP,
        erasure=bytes(range(16, 32)),
        by="privacy-officer",
        why="Asked to be forgotten.",
        received_at=_NOON,
    ),
}


def sample(name: str) -> StoredEvent:
    return StoredEvent(STREAM, 1, name_of(name), (SAMPLES / f"{name}.bin").read_bytes())


def name_of(sample: str) -> str:
    return sample.partition("+")[0]


def test_every_name_that_can_stand_in_the_log_has_a_sample() -> None:
    assert {file.name.removesuffix(".bin") for file in SAMPLES.glob("*.bin")} == set(SAID)
    assert set(map(name_of, SAID)) == set(LAYOUTS)


@pytest.mark.parametrize("name", sorted(SAID))
def test_a_sample_reads_as_what_was_recorded(name: str) -> None:
    assert LedgerMapper().read(sample(name), KEY).event == SAID[name]


@pytest.mark.parametrize("name", sorted(SAID))
def test_a_sample_of_an_erased_message_reads_without_the_person(name: str) -> None:
    expected = SAID[name]
    if not isinstance(expected, StatusCorrected | MessageErased):
        expected = msgspec.structs.replace(expected, personal=type(expected.personal)())

    assert LedgerMapper().read(sample(name), None).event == expected


@pytest.mark.parametrize("name", sorted(NAMES.values()))
def test_a_sample_says_something_in_every_field(name: str) -> None:
    """Otherwise a field could be renamed, and old events lose it, without a sample noticing."""
    silent = [unsaid(event) for sample, event in SAID.items() if name_of(sample) == name]

    assert set.intersection(*silent) == set()


def unsaid(event: AnyEvent) -> set[str]:
    """Return the fields, personal ones too, that have their default value."""
    told: list[msgspec.Struct] = (
        [event] if isinstance(event, StatusCorrected | MessageErased) else [event, event.personal]
    )
    return {
        field.name
        for struct in told
        for field in msgspec.structs.fields(struct)
        if field.default is not msgspec.NODEFAULT and getattr(struct, field.name) == field.default
    }


@pytest.mark.parametrize("name", sorted(SAID))
def test_a_sample_folds_into_a_message_that_can_be_stored(name: str) -> None:
    """Whatever stands in an old log can be decided upon, shown and written again as a row."""
    read = LedgerMapper().read(sample(name), KEY).event

    message = evolve(Message(), read)

    assert message == evolve(Message(), SAID[name])
    assert message != Message()
    stored = snapshot.encode(message, STREAM, 1, KEY)
    assert snapshot.decode(stored, STREAM, KEY).message == message

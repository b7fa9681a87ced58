"""What must hold of a history: at every answer, at every row, and at the end.

The oracle is outside the product: what clients were told, the lines of the log, and the executable specification of
the status machine (`tests.domain.model`), folded over the log in its order.
"""

from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from ledger.domain.events import MessageLinked, StatusCorrected, StatusObserved
from ledger.domain.message import Observe
from ledger.domain.observation import Source
from ledger.ingest.writer import Job
from ledger.store.application import RecordedEvent, fold
from scripts.chaos_suite.simulation.clients import TAKEN, Delivery
from scripts.chaos_suite.simulation.following import UNREADABLE
from scripts.chaos_suite.simulation.loop import Process
from scripts.chaos_suite.simulation.store import POISON, Row, SimulatedLedger, Store, Violation
from tests.builders import NOON
from tests.domain import machine, model

if TYPE_CHECKING:
    from scripts.chaos_suite.simulation.world import World


def observations(job: Job) -> list[Observe]:
    return [each.command for each in job.statements if isinstance(each.command, Observe)]


def never_flips(stream_id: UUID, before: Row | None, now: Row) -> None:
    """Judge a row by the one that it replaces: a status climbs, and an outcome stays unless a person decides."""
    if before is None or before.corrections != now.corrections:
        return
    if not model.climbs(before.status, now.status):
        raise Violation(f"{before.status} became {now.status}, which is below it")


def is_on_record(store: Store, delivery: Delivery, job: Job) -> None:
    """Judge an answer 200 when it is given: everything that the request said is committed.

    A poller's answer that says nothing new is not recorded.
    """
    if delivery.source is Source.POLL:
        return
    for command in observations(job):
        if command.observation.provider_status == POISON:
            if delivery.name.encode() not in store.captures:
                raise Violation(f"{delivery.name} was answered 200, and what cannot be written was not kept")
        elif command.key not in store.observations:
            raise Violation(f"{delivery.name} was answered 200 before it was on record")


def at_the_end(world: "World") -> None:
    """Judge the store when everything has come to rest. Raises Violation."""
    store = world.store
    ledger = SimulatedLedger(store, Process(world.simulation, "judge"))
    for delivery, job in world.acknowledged:
        is_on_record(store, delivery, job)
    _counts(store)
    _batches_are_whole(world)
    said: dict[str, model.Claim] = {}
    for stream_id in store.streams:
        history = ledger.history(stream_id)
        _stream(ledger, stream_id, history, said)
    for own in world.handed_off:
        if own.handing_off.answer == TAKEN and not _is_linked(ledger, own.stream_id):
            raise Violation(f"{own.handing_off.name} was answered 200, and is on record in one stream only or none")


def _counts(store: Store) -> None:
    twice = [key for key, times in store.observations.items() if times > 1]
    if twice:
        raise Violation(f"{len(twice)} observations are on record twice")
    expected: dict[UUID, int] = {}
    parked: set[tuple[int, int]] = set()
    mapper = SimulatedLedger(store, Process(store.simulation, "judge")).mapper
    for lines in store.log:
        for place, line in enumerate(lines, start=1):
            if line.position != place:
                raise Violation("positions have gaps")
            event = mapper.read(line.stored, None).event
            if isinstance(event, StatusObserved) and event.error_code == UNREADABLE:
                parked.add((line.partition, line.position))
            else:
                stream_id = line.stored.originator_id
                expected[stream_id] = expected.get(stream_id, 0) + 1
    if store.parked != parked:
        raise Violation(f"parked are {sorted(store.parked)}, and not {sorted(parked)}")
    if store.counted != expected:
        raise Violation("the read model does not count what is in the log")


def _batches_are_whole(world: "World") -> None:
    """A request that nobody was promised anything about is on record whole or not at all."""
    owners: dict[bytes, set[str]] = {}
    jobs = [(delivery, delivery.job(0)) for delivery in world.deliveries]
    for delivery, job in jobs:
        for command in observations(job):
            owners.setdefault(command.key, set()).add(delivery.name)
    for delivery, job in jobs:
        commands = observations(job)
        if any(command.observation.provider_status == POISON for command in commands):
            continue  # its statements are tried one by one
        own = {command.key in world.store.observations for command in commands if len(owners[command.key]) == 1}
        if len(own) == 2 and delivery.source is not Source.SENDER:
            raise Violation(f"{delivery.name} is on record in part")


def _stream(
    ledger: SimulatedLedger, stream_id: UUID, history: list[RecordedEvent], said: dict[str, model.Claim]
) -> None:
    row = ledger.store.rows[stream_id]
    lines = ledger.store.streams[stream_id]
    if [line.stored.originator_version for line in lines] != list(range(1, len(lines) + 1)) or row.version != len(
        lines
    ):
        raise Violation("versions have gaps, or a row is not of the last one")
    message = ledger.snapshot(row.state, stream_id, ledger._key_of(stream_id)).message
    if message != fold(history):
        raise Violation("a row is not what its events amount to")
    theirs = _modelled(history)
    ours = (message.status.value, message.kind.value if message.kind else "", message.conflict.value)
    if ours != (theirs.status, theirs.kind, theirs.conflict) or message.corrections != theirs.corrections:
        raise Violation(f"{ours} is shown, and the model says {theirs.status, theirs.kind, theirs.conflict}")
    if {key.hex() for key in message.keys} != theirs.keys:
        raise Violation("a message does not know its observations")
    if machine.evidence_as_model(message.evidence) != theirs.evidence:
        raise Violation("a message has another evidence than the model")


def _modelled(history: list[RecordedEvent]) -> model.Message:
    """Fold claims as they are in the log, and corrections.

    A correction was decided within one stream; where a hand-off has put another stream's claims before it, it stands.
    """
    message, is_linked = model.Message(), len({recorded.stream_id for recorded in history}) > 1
    for recorded in history:
        match recorded.event:
            case StatusObserved() as event:
                message = model.observe(message, _claim(event))
            case StatusCorrected() as corrected if is_linked:
                message = replace(
                    message,
                    status=corrected.status_after.value,
                    kind=corrected.kind_after.value if corrected.kind_after else "",
                    conflict="settled",
                    corrections=message.corrections + (corrected.to.value != model.outcome(message.status)),
                )
            case StatusCorrected(to=to):
                message = model.correct(message, to.value)
    return message


def _claim(event: StatusObserved) -> model.Claim:
    return model.Claim(
        key=event.key.hex(),
        status=event.claim.value,
        at=None if event.occurred_at is None else int((event.occurred_at - NOON).total_seconds() // 60),
        kind=event.kind.value if event.kind else "",
        reason=event.personal.error_text or "",
        closes=event.closes,
    )


def _is_linked(ledger: SimulatedLedger, stream_id: UUID) -> bool:
    links = [each.event for each in ledger.history(stream_id) if isinstance(each.event, MessageLinked)]
    if not links:
        return False
    leading = ledger.history(links[0].other)
    return any(isinstance(each.event, MessageLinked) and each.event.other == stream_id for each in leading)

"""Reading again what could not be read, or not understood, when it came in.

A newer adapter may read a kept request, and a newer vocabulary may know a word. What they now say is recorded as an
observation of source `reread`, dated by the first receipt, once: its key is derived from its content, so another run
finds it on record. Nothing recorded is touched.
"""

from collections.abc import Sequence

import msgspec

from ledger.domain.message import Receipt
from ledger.domain.observation import Observation, Source
from ledger.ingest.accept import Intake
from ledger.ingest.writer import Statement
from ledger.store.rereading import Kept, Unrecognised
from ledger.wire.contract import UNRECOGNISED, Headers, Malformed, Parsed, Webhook, claim_of


def of_capture(intake: Intake, kept: Kept) -> list[Statement] | None:
    """Return what a capture says today; None while something in it still cannot be read."""
    for content in _readings(intake, kept.content):
        parsed = _parsed(intake, content, kept.content_type)
        if parsed is not None and not parsed.unreadable and (parsed.observations or parsed.ignored):
            receipt = intake.receipt(Source.REREAD, kept.received_at, kept.content)
            return [intake.statement(observation, receipt) for observation in parsed.observations]
    return None


def of_observation(intake: Intake, told: Unrecognised) -> Statement | None:
    """Return what an observation means today; None if its word is still not known.

    Its evidence is read again where it was kept, and the word looked up where it was not.
    """
    event, personal = told.event, told.event.personal
    found = next(iter(_matching(intake, told)), None)
    claim = found.claim if found is not None else claim_of(intake.provider.claims, personal.provider_status)
    if claim is UNRECOGNISED:
        return None
    observation = Observation(
        reference=found.reference if found is not None else "",
        provider_message_id=personal.provider_message_id or (found.provider_message_id if found is not None else ""),
        provider_status=personal.provider_status,
        claim=claim,
        occurred_at=event.occurred_at,
        event_id=event.event_id,
        date_text=event.date_text,
        error_code=event.error_code or (found.error_code if found is not None else None),
        error_text=personal.error_text or (found.error_text if found is not None else None),
        channel=event.channel,
        transport=event.transport,
        part=event.part.number if event.part else None,
        parts=event.part.count if event.part else None,
        item=personal.item,
    )
    receipt = msgspec.structs.replace(
        intake.receipt(Source.REREAD, event.received_at, b""), request_digest=event.request_digest
    )
    return _statement(intake, told, observation, receipt)


def _statement(intake: Intake, told: Unrecognised, observation: Observation, receipt: Receipt) -> Statement:
    """Name the observation by its stream: the reference is not kept, and not needed."""
    named = msgspec.structs.replace(observation, reference=told.stream_id.hex)
    return msgspec.structs.replace(intake.statement(named, receipt), stream_id=told.stream_id)


def _matching(intake: Intake, told: Unrecognised) -> Sequence[Observation]:
    personal = told.event.personal
    for content in _readings(intake, personal.item) if personal.item else ():
        parsed = _parsed(intake, content, "")
        word = personal.provider_status.strip().lower()
        matching = [
            observation
            for observation in (parsed.observations if parsed is not None else ())
            if observation.provider_status.strip().lower() == word and observation.claim is not UNRECOGNISED
        ]
        if matching:
            return matching
    return ()


def _readings(intake: Intake, content: bytes) -> list[bytes]:
    """Return the requests that a kept text may be: itself, or an item of one."""
    whole = intake.provider.whole
    return [content] if whole is None else [whole(content, intake.account), content]


def _parsed(intake: Intake, content: bytes, content_type: str) -> Parsed | None:
    is_json = content.lstrip()[:1] in (b"{", b"[")
    form = b"application/x-www-form-urlencoded"
    told = content_type.encode() or (b"application/json" if is_json else form)
    by_query = told == form and "GET" in intake.provider.methods and "POST" not in intake.provider.methods
    webhook = Webhook(
        method="GET" if by_query else "POST",
        url=intake.account.public_url,
        query=content if by_query else b"",
        headers=Headers([(b"content-type", told)]),
        body=b"" if by_query else content,
    )
    try:
        return intake.provider.parse(webhook, intake.account)
    except Malformed:
        return None

"""Events with any content, for properties of the store."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from ledger.domain.events import (
    AnyEvent,
    MessageLinked,
    MessageRegistered,
    ObservedDetails,
    RegisteredDetails,
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.observation import Source
from ledger.domain.status import Channel, FailureKind, Outcome, Status, Verdict

#: Any text that is text: providers' adapters let no lone surrogate through, and the writer isolates what does.
texts = st.text(max_size=20)
maybe_text = st.none() | texts
instants = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
keys = st.binary(min_size=16, max_size=16)
digests = st.binary(min_size=32, max_size=32)
statuses = st.sampled_from(Status)

_origin = {"account": st.from_regex("[a-z0-9-]{1,40}", fullmatch=True), "channel": st.sampled_from(Channel)}

observed_details = st.builds(
    ObservedDetails,
    provider_message_id=texts,
    provider_status=texts,
    error_text=maybe_text,
    recipient=maybe_text,
    recipient_raw=maybe_text,
    recipient_user_id=maybe_text,
    participant=maybe_text,
    client_reference=maybe_text,
    item=st.binary(max_size=40),
)
registered_details = st.builds(
    RegisteredDetails,
    provider_message_id=maybe_text,
    recipient=maybe_text,
    client_reference=maybe_text,
    conversation_id=maybe_text,
    conversation_part_id=maybe_text,
    metadata=st.dictionaries(texts, texts, max_size=3),
)

observed = st.builds(
    StatusObserved,
    **_origin,
    provider=texts,
    key=keys,
    source=st.sampled_from(Source),
    claim=statuses,
    kind=st.none() | st.sampled_from(FailureKind),
    closes=st.booleans(),
    recognised=st.booleans(),
    verdict=st.sampled_from(Verdict),
    skipped=st.lists(statuses, max_size=3).map(tuple),
    status_before=statuses,
    status_after=statuses,
    kind_after=st.none() | st.sampled_from(FailureKind),
    occurred_at=st.none() | instants,
    believed=st.booleans(),
    received_at=instants,
    event_id=maybe_text,
    date_text=maybe_text,
    error_code=maybe_text,
    transport=maybe_text,
    provider_account=maybe_text,
    request_digest=digests,
    item_digest=digests,
    rules=st.integers(1, 100),
    personal=observed_details,
)
registered = st.builds(
    MessageRegistered,
    **_origin,
    provider=texts,
    registration=keys,
    queued_at=st.none() | instants,
    received_at=instants,
    personal=registered_details,
)
linked = st.builds(
    MessageLinked,
    **_origin,
    provider=texts,
    other=st.uuids(),
    leads=st.booleans(),
    other_message_id=st.none() | st.integers(1, 2**53 - 1),
    received_at=instants,
    personal=registered_details,
)
corrected = st.builds(
    StatusCorrected,
    **_origin,
    provider=texts,
    to=st.sampled_from(Outcome),
    by=texts,
    why=texts,
    relied_on=st.lists(st.integers(1, 2**53), max_size=3).map(tuple),
    status_before=statuses,
    status_after=statuses,
    kind_after=st.none() | st.sampled_from(FailureKind),
    received_at=instants,
)

events: st.SearchStrategy[AnyEvent] = st.one_of(observed, registered, linked, corrected)

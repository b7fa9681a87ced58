"""`docs/surfaces` has every word, field and filter that surfaces have, and no other."""

from ledger.domain.status import Channel, Status
from ledger.http import broadcast, intercom, outlet, streams
from ledger.http.changes import ChangeShape, StepShape, StreamedMessage
from ledger.surfaces.intercom import EVENTS_MAX
from ledger.surfaces.vocabulary import LABELS, Surface, hubspot_wording, word
from ledger_client import Client, errors
from ledger_client.transport import PATIENCE_SECONDS
from tests.builders import a_message, observed
from tests.docs.documents import code, section, table, text_of

WORDS = text_of("docs/surfaces/index.md")
STREAMS = text_of("docs/surfaces/streams.md")
INTERCOM = text_of("docs/surfaces/intercom.md")


def first_cells(heading: str, number: int = 0) -> list[str]:
    return [code(row[0])[0] for row in table(STREAMS, heading, number)]


def test_every_word_of_every_surface_is_documented_and_no_other() -> None:
    documented = {code(row[0])[0]: row[1:] for row in table(WORDS, "Words")}

    assert documented == {status.value: [LABELS[surface][status] for surface in Surface] for status in Status}


def test_the_documented_words_are_those_of_every_channel() -> None:
    for surface in Surface:
        for status in Status:
            assert {word(surface, channel, status).label for channel in Channel} == {LABELS[surface][status]}


def test_documented_wordings_are_written_as_documented() -> None:
    told = a_message(observed(Status.DELIVERED, 0))

    sentence = hubspot_wording(told).replace("SMS", "WhatsApp").partition(" · ")[0]

    assert f"`{sentence} · last updated 14 Sep 2026, 08:20:31 UTC`" in WORDS
    assert f"`{word(Surface.INTERCOM, Channel.SMS, Status.DELIVERED).with_icon}`" in WORDS


def test_every_field_of_a_change_is_documented_and_no_other() -> None:
    assert first_cells("Every message") == list(ChangeShape.__struct_fields__)


def test_every_filter_of_the_tail_is_documented_and_no_other() -> None:
    assert first_cells("Every message", 1) == list(streams.FILTERS)


def test_every_field_of_a_streamed_message_is_documented_and_no_other() -> None:
    assert first_cells("One message") == list(StreamedMessage.__struct_fields__)
    steps = next(row for row in table(STREAMS, "One message") if code(row[0]) == ["timeline"])
    assert [name for name in code(steps[1]) if name in StepShape.__struct_fields__] == list(StepShape.__struct_fields__)


def test_limits_in_the_text() -> None:
    text = " ".join(STREAMS.split())
    assert f"more than {outlet.BUFFER_BYTES_MAX // 1024 // 1024} MiB waits" in text
    assert f"nothing was taken for {outlet.BLOCKED_SECONDS_MAX:.0f} s" in text
    assert f"it ends within {broadcast._KEYS_SECONDS:.0f} s" in text
    assert f"more than {intercom.BODY_BYTES_MAX // 1024} KiB" in INTERCOM
    assert EVENTS_MAX == 12
    assert "latest twelve entries" in " ".join(section(INTERCOM, "What it shows").split())


def test_every_method_and_error_of_the_client_is_documented_and_no_other() -> None:
    text = text_of("docs/surfaces/client.md")

    methods = {name for name, value in vars(Client).items() if callable(value) and not name.startswith("_")}
    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}

    assert {code(row[0])[0] for row in table(text, "Python client")} == methods
    assert {code(row[0])[0] for row in table(text, "Errors")} == raised - {"LedgerError"}
    assert f"for up to {PATIENCE_SECONDS:.0f} seconds" in " ".join(text.split())

"""An erasure, as the command carries it out, ends what is sent of a message; its neighbours are told of as before."""

from pathlib import Path

from ledger.domain.status import Status
from ledger.main import SCRUBS
from tests.ingest.erasing import erase_recipient
from tests.outbound.conftest import Rig

PHONE = "+15550177001"


def test_nothing_of_an_erased_message_is_sent_and_nothing_is_kept_of_what_was(rig: Rig, tmp_path: Path) -> None:
    rig.endpoint()
    rig.report(Status.SENT, reference="erased-1", recipient=PHONE)
    rig.report(Status.SENT, reference="kept-1", recipient="+15550177002")
    rig.send()
    assert len(rig.receiver.received) == 2
    rig.report(Status.DELIVERED, reference="erased-1")
    rig.report(Status.DELIVERED, reference="kept-1")
    rig.follow()

    outcome = erase_recipient(rig.ledger, tmp_path / "erasures.jsonl", PHONE, SCRUBS)

    assert outcome.scrubbed["outbound"] >= 1
    rig.receiver.received.clear()
    rig.send()
    told = [each.data for each in rig.receiver.received]
    assert [data["provider_message_id"] for data in told] == ["provider-message-1"] * len(told)
    assert {data["recipient"] for data in told} == {"+15550177002"}
    assert {data["status"] for data in told} == {"DELIVERED"}

"""What holds for any history, any faults, any division of the log, and any two workers."""

import itertools
import random
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.domain.status import FailureKind, Status
from ledger.http import render
from ledger.ingest.writer import Job, Statement
from ledger.outbound import telling
from ledger.outbound.deliveries import Settlement, State
from ledger.outbound.guard import Guard
from ledger.outbound.hubspot import bodies
from ledger.outbound.webhooks import Client
from ledger.store.application import Ledger
from ledger.store.destinations import Kind
from ledger.surfaces import vocabulary
from ledger.surfaces.vocabulary import Surface
from projections.current_status import CurrentStatus
from tests.builders import a_claim, a_receipt, at, observe_command
from tests.outbound.conftest import LOOPBACK, Rig
from tests.outbound.receiver import Act, Receiver, answers, drips, hangs_up, receiving
from tests.plugins.ledger import Pen, Shape, write_at_once

FAULTS: dict[str, Act] = {
    "ok": answers(200),
    "500": answers(500),
    "429": answers(429),
    "302": answers(302, location="/elsewhere"),
    "hang up": hangs_up,
    "drip": drips,
}
_examples = itertools.count(1)
CLAIMS = [status for status in Status if status is not Status.UNKNOWN]


def settle_everything(rig: Rig) -> None:
    """Send, and let time pass, until nothing is left to send."""
    while True:
        rig.send(seconds_max=0.1)
        if not rig.execute("SELECT 1 FROM deliveries WHERE state = 'pending'"):
            return
        rig.pass_time(5 * 3_600)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    reports=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(CLAIMS)), min_size=1, max_size=12),
    faults=st.lists(st.sampled_from(sorted(FAULTS)), max_size=8),
    sends=st.sets(st.integers(0, 11)),
)
def test_whatever_fails_every_change_arrives_and_no_message_steps_back(
    rig: Rig, reports: list[tuple[int, Status]], faults: list[str], sends: set[int]
) -> None:
    """Nobody hears of a later change before an earlier one, though either may come twice."""
    rig.execute("DELETE FROM destinations")
    rig.receiver.received.clear()
    endpoint = rig.endpoint()
    example = next(_examples)
    rig.receiver.script = [FAULTS[fault] for fault in faults]
    for number, (message, claim) in enumerate(reports):
        rig.report(claim, reference=f"{example}-{message}")
        if number in sends:
            rig.send(seconds_max=0.1)

    settle_everything(rig)

    assert set(rig.states(endpoint)) <= {State.DELIVERED}
    by_message: dict[int, list[Any]] = {}
    for each in rig.receiver.received:
        by_message.setdefault(each.data["message_id"], []).append(each.data)
    for told in by_message.values():
        versions = [data["version"] for data in told]
        assert versions == sorted(versions)
        firsts = list({data["version"]: data for data in told}.values())
        before = ["UNKNOWN", *[data["status"] for data in firsts]]
        assert [data["previous_status"] for data in firsts] == before[:-1]
    for message in {message for message, _ in reports}:
        opened = CurrentStatus(rig.ledger).of_stream(rig.stream(f"{example}-{message}"))
        assert opened is not None
        if opened.message.status is not Status.UNKNOWN:
            assert by_message[opened.shown_id][-1]["status"] == opened.message.status


def a_history(draw: random.Random) -> Iterator[tuple[Status, dict[str, Any]]]:
    """Yield what a provider says about a message: mostly in order, sometimes late, repeated or contradictory."""
    for number in range(draw.randint(1, 5)):
        claim = draw.choice([*CLAIMS, Status.DELIVERED, Status.SENT])
        said: dict[str, Any] = {"event_id": f"event-{number}"}
        if draw.random() < 0.7:
            said["occurred_at"] = at(draw.uniform(-30, 0))
        if claim is Status.FAILED:
            said |= {"error_code": draw.choice(["30003", "63016", "unheard-of"]), "error_text": "It failed."}
        yield claim, said


def test_webhooks_hubspot_and_the_api_agree_about_500_random_messages(rig: Rig) -> None:
    draw = random.Random(8)
    rig.endpoint()
    jobs = []
    for number in range(500):
        reference = f"agreement-{number}"
        for claim, said in a_history(draw):
            kind = draw.choice([FailureKind.FAILED, FailureKind.UNDELIVERED]) if claim is Status.FAILED else None
            receipt = a_receipt(account=rig.account)
            command = observe_command(a_claim(claim, kind), reference=reference, receipt=receipt, **said)
            jobs.append(Job([Statement(rig.stream(reference), command)]))
    assert not [job.error for job in write_at_once(rig.ledger, jobs) if job.error]
    rig.send()

    newest = {each.data["message_id"]: each.data for each in rig.receiver.received}
    messages = CurrentStatus(rig.ledger)
    assert len(newest) == 500
    for message_id, data in newest.items():
        opened = messages.get(message_id)
        assert opened is not None
        shown = msgspec.to_builtins(render.message(opened, message_id, ""))
        same = (
            "status",
            "status_detail",
            "is_final",
            "recipient",
            "client_reference",
            "provider_message_id",
            "channel",
        )
        assert {name: data[name] for name in same} == {name: shown[name] for name in same}
        if data["version"] == shown["version"]:  # nothing was added to its evidence since its status changed
            assert data["failure"] == _told(shown["failure"])
            assert (data["conflict"], data["last_updated"]) == (shown["conflict"], shown["last_updated"])
        change = telling.Change(
            message_id=message_id,
            version=opened.message.version,
            opened_at=opened.opened_at,
            before=Status.UNKNOWN,
            message=opened.message,
            occurred_at=None,
            recorded_at=opened.opened_at,
        )
        word = vocabulary.word_of(Surface.HUBSPOT, opened.message)
        assert bodies.properties(change)["status"] == word.label
        assert vocabulary.word(Surface.HUBSPOT, opened.message.channel, Status(data["status"])) == word


def _told(shown: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a failure as the API tells it, without what webhooks leave out."""
    return None if shown is None else {name: shown[name] for name in telling.Failed.__struct_encode_fields__}


def test_a_log_of_any_shape_is_told_in_order(
    shape: Shape, followed_ledgers: Callable[[Shape], Ledger], receiver: Receiver
) -> None:
    ledger = followed_ledgers(shape)
    pen = Pen(ledger)
    try:
        rig = Rig(ledger, pen, receiver)
        rig.endpoint()
        for number in range(20):
            rig.report(Status.SENT, Status.DELIVERED, reference=f"outbound-{shape}-{number}")

        rig.send()

        by_message: dict[int, list[str]] = {}
        for each in receiver.received:
            by_message.setdefault(each.data["message_id"], []).append(each.data["status"])
        assert len(by_message) == 20
        assert set(map(tuple, by_message.values())) == {("SENT", "DELIVERED")}
    finally:
        pen.writer.close()


# Two workers ----------------------------------------------------------------------------------------------------------


def claim(rig: Rig) -> Any:
    rig.follow()
    rig.deliveries.hand_on()
    told = {"limit": 10, "each": 10, "lease_seconds": 30.0, "busy": dict[str, int]()}
    return rig.deliveries.claim(Kind.WEBHOOK, **told)  # type: ignore[arg-type]


def test_a_leased_delivery_is_nobody_elses_until_the_lease_has_run_out(rig: Rig) -> None:
    rig.endpoint()
    rig.report(Status.SENT, Status.DELIVERED)

    (mine,) = claim(rig)
    assert claim(rig) == []
    rig.pass_time(31)
    (theirs,) = claim(rig)

    assert (mine.position, mine.fence + 1) == (theirs.position, theirs.fence)
    assert not rig.deliveries.is_held_by(mine)
    assert rig.deliveries.is_held_by(theirs)


def test_what_is_reported_under_a_lost_lease_is_not_believed(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.report(Status.SENT)
    (mine,) = claim(rig)
    rig.pass_time(31)
    (theirs,) = claim(rig)
    gone = Settlement(outcome="gone", answer=410)

    early = rig.deliveries.settle(endpoint, mine, gone)
    assert rig.states(endpoint) == [State.PENDING]
    rig.deliveries.settle(endpoint, theirs, Settlement(outcome="delivered", answer=200))
    late = rig.deliveries.settle(endpoint, mine, gone)

    assert early == late == []
    assert rig.states(endpoint) == [State.DELIVERED]
    assert rig.outcomes(endpoint) == ["delivered"]


def test_a_lease_that_is_given_back_can_be_had_at_once(rig: Rig) -> None:
    rig.endpoint()
    rig.report(Status.SENT)
    (mine,) = claim(rig)

    rig.deliveries.release([mine])

    assert len(claim(rig)) == 1


def test_handing_on_is_done_by_one_at_a_time_and_does_nothing_twice(rig: Rig) -> None:
    endpoint = rig.endpoint()
    rig.report(Status.SENT, Status.DELIVERED)
    rig.follow()
    rig.execute("INSERT INTO outbound_positions (partition) VALUES (0) ON CONFLICT DO NOTHING")
    with rig.ledger.reading() as cursor, cursor.connection.transaction():
        cursor.execute("SELECT 1 FROM outbound_positions FOR UPDATE")
        assert rig.deliveries.hand_on() == 0  # somebody else is at it

    assert rig.deliveries.hand_on() == 2
    assert rig.deliveries.hand_on() == 0
    assert len(rig.states(endpoint)) == 2


# TLS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key in the same file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a customer")])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, *form) + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def over_tls(certificate: Path) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with receiving(context) as receiver:
        yield receiver


def test_a_certificate_that_nobody_vouches_for_is_refused_and_nothing_is_told(rig: Rig, over_tls: Receiver) -> None:
    endpoint = rig.endpoint(url=over_tls.url)
    rig.report(Status.SENT)

    rig.send()

    assert over_tls.received == []
    assert rig.outcomes(endpoint) == ["certificate_refused"]


def test_a_change_is_told_over_tls_to_a_name_that_its_certificate_has(
    rig: Rig, over_tls: Receiver, certificate: Path
) -> None:
    endpoint, other = rig.endpoint(url=over_tls.url), rig.endpoint(url=over_tls.url.replace("127.0.0.1", "127.0.0.2"))
    rig.report(Status.SENT)
    client: Callable[[], Client] = lambda: Client(  # noqa: E731
        Guard([LOOPBACK]), seconds_max=5.0, trusted=ssl.create_default_context(cafile=str(certificate))
    )

    rig.send(client=client())

    assert over_tls.statuses == ["SENT"]
    assert rig.outcomes(endpoint) == ["delivered"]
    assert rig.outcomes(other) != ["delivered"]

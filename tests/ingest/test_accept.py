"""From a request to a job: authentic or not, readable or not, item by item."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.identity import request_digest
from ledger.domain.message import Observe
from ledger.domain.observation import Source
from ledger.domain.status import Channel, Status
from ledger.ingest.accept import Accepted, Intake, Unauthentic, intakes
from ledger.wire.contract import Account, Headers, Malformed, Parsed, Provider, Secret, Unreadable, Webhook, claim_of
from tests.builders import NAMES, NOON, a_claim, an_observation
from tests.statements import stream_of

CLAIMS = {"sent": a_claim(Status.SENT), "delivered": a_claim(Status.DELIVERED)}


def a_provider(parsed: Parsed | Malformed | None = None, *, authentic: bool = True) -> Provider:
    """Return an adapter that reads the same out of every request."""

    def parse(_webhook: Webhook, _account: Account) -> Parsed:
        if isinstance(parsed, Malformed):
            raise parsed
        return parsed or Parsed()

    return Provider(
        name="provider-1",
        channels=frozenset({Channel.SMS}),
        content_types=frozenset({"application/json"}),
        claims=CLAIMS,
        authenticate=lambda _webhook, _account: authentic,
        parse=parse,
    )


def an_account(**told: Any) -> Account:
    defaults: dict[str, Any] = {
        "name": "account-1",
        "provider": "provider-1",
        "channel": Channel.SMS,
        "secrets": (Secret("s"),),
        "public_url": "https://example.com",
    }
    return Account(**(defaults | told))


def a_webhook(body: bytes = b"body") -> Webhook:
    return Webhook(method="POST", url="https://example.com", query=b"", headers=Headers([]), body=body)


def accepted(parsed: Parsed | Malformed, *, keeps_items: bool = True, **account: Any) -> Accepted:
    intake = Intake(an_account(**account), a_provider(parsed), NAMES, keeps_items=keeps_items)
    return intake.accept(a_webhook(), NOON, "application/json")


def commands(job: Accepted) -> list[Observe]:
    found = [statement.command for statement in job.job.statements]
    assert all(isinstance(command, Observe) for command in found)
    return found  # type: ignore[return-value]  # just asserted


def test_an_unauthentic_request_is_refused_before_it_is_read() -> None:
    provider = a_provider(Malformed("must not be reached"), authentic=False)

    with pytest.raises(Unauthentic, match="account-1"):
        Intake(an_account(), provider, NAMES, keeps_items=True).accept(a_webhook(), NOON, "application/json")


def test_every_observation_becomes_a_statement_about_its_own_message() -> None:
    observations = (an_observation(Status.SENT, reference="one"), an_observation(Status.DELIVERED, reference="two"))

    job = accepted(Parsed(observations=observations))

    assert [statement.stream_id for statement in job.job.statements] == [stream_of("one"), stream_of("two")]
    assert [command.observation for command in commands(job)] == [*observations]
    assert job.job.captures == []


def test_a_statement_says_where_and_when_it_came_in() -> None:
    (command,) = commands(accepted(Parsed(observations=(an_observation(),)), conflicts="delivery-wins"))

    receipt = command.receipt
    assert (receipt.account, receipt.provider, receipt.channel) == ("account-1", "provider-1", Channel.SMS)
    assert (receipt.source, receipt.received_at) == (Source.CALLBACK, NOON)
    assert receipt.request_digest == request_digest(b"body")
    assert (receipt.keeps_items, receipt.delivery_wins) == (True, True)


def test_an_account_keeps_conflicts_open_unless_it_says_otherwise() -> None:
    (command,) = commands(accepted(Parsed(observations=(an_observation(),))))

    assert command.receipt.delivery_wins is False


def test_items_are_left_out_of_the_evidence_where_settings_say_so() -> None:
    (command,) = commands(accepted(Parsed(observations=(an_observation(),)), keeps_items=False))

    assert command.receipt.keeps_items is False
    assert command.item_digest == NAMES.item_digest(command.observation.item)


@pytest.mark.parametrize(
    ("word", "recognised"), [("sent", True), (" SENT ", True), ("shipped", False), ("", False), ("sent.", False)]
)
def test_a_word_is_recognised_if_it_stands_in_the_providers_table(word: str, recognised: bool) -> None:
    told = an_observation(claim_of(CLAIMS, word), provider_status=word)

    (command,) = commands(accepted(Parsed(observations=(told,))))

    assert command.recognised is recognised


def test_equal_observations_have_equal_keys_and_others_do_not() -> None:
    told = [
        an_observation(Status.SENT),
        an_observation(Status.SENT, item=b"sent again, in another order", recipient="+1555"),
        an_observation(Status.SENT, occurred_at=NOON),
        an_observation(Status.SENT, error_code="1"),
        an_observation(Status.SENT, reference="other"),
        an_observation(Status.SENT, event_id="event"),
        an_observation(Status.DELIVERED),
    ]

    keys = [command.key for command in commands(accepted(Parsed(observations=tuple(told))))]

    assert keys[0] == keys[1]
    assert len({*keys[1:]}) == 6


def test_a_poll_says_something_of_its_own() -> None:
    intake = Intake(an_account(), a_provider(), NAMES, keeps_items=True)
    receipts = [intake.receipt(source, NOON, b"") for source in (Source.CALLBACK, Source.POLL)]

    one, other = (intake.statement(an_observation(), receipt).command for receipt in receipts)

    assert isinstance(one, Observe)
    assert isinstance(other, Observe)
    assert one.key != other.key


def test_what_cannot_be_read_is_captured_item_by_item() -> None:
    unreadable = (Unreadable("statuses[0]: no id", b"{}"), Unreadable("statuses[2]: no id", b"[]"))

    job = accepted(Parsed(observations=(an_observation(),), unreadable=unreadable))

    assert len(job.job.statements) == 1
    assert [(capture.reason, capture.content) for capture in job.job.captures] == [
        ("statuses[0]: no id", b"{}"),
        ("statuses[2]: no id", b"[]"),
    ]


def test_a_request_that_cannot_be_read_at_all_is_captured_whole() -> None:
    job = accepted(Malformed("body: not an object"))

    assert job.job.statements == []
    (capture,) = job.job.captures
    assert (capture.account, capture.provider, capture.reason) == ("account-1", "provider-1", "body: not an object")
    assert (capture.content, capture.content_type, capture.received_at) == (b"body", "application/json", NOON)


def test_a_request_without_anything_to_record_is_an_empty_job() -> None:
    job = accepted(Parsed(ignored=3, alerts=("131031",)))

    assert (job.job.statements, job.job.captures) == ([], [])
    assert job.parsed.alerts == ("131031",)


@given(body=st.binary(), reason=st.text())
def test_any_authentic_request_can_be_set_aside(body: bytes, reason: str) -> None:
    intake = Intake(an_account(), a_provider(), NAMES, keeps_items=True)

    job = intake.set_aside(a_webhook(body), reason, NOON, "text/plain")

    assert [(capture.reason, capture.content, capture.content_type) for capture in job.captures] == [
        (reason, body, "text/plain")
    ]
    assert list(job.statements) == []


def test_there_is_an_intake_for_every_account() -> None:
    accounts = {name: an_account(name=name) for name in ("account-1", "account-2")}

    found = intakes(accounts, {"provider-1": a_provider()}, NAMES, keeps_items=False)

    assert {name: intake.account.name for name, intake in found.items()} == {name: name for name in accounts}


def test_two_accounts_never_name_the_same_message() -> None:
    told = Parsed(observations=(an_observation(),))
    one, other = accepted(told), accepted(told, name="account-2")

    assert one.job.statements[0].stream_id != other.job.statements[0].stream_id

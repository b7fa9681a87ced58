"""A play is the same for the same seed and run, and its judge knows where messages stand without asking the ledger."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise, permutations

import msgspec
import pytest

from ledger.commands.simulation import traffic
from ledger.commands.simulation.model import Account, Clock, Message, Report, Sender, Step, Story, run_of, tag
from ledger.commands.simulation.script import PROVIDERS, UNSPOKEN, Line
from ledger.commands.simulation.verdict import SOME_TIME, Place, judge

RUN = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
ACCOUNTS = [
    Account(name=f"{name}-main", provider=name, secrets=(b"new", b"old"), public_url=f"https://example.com/{name}")
    for name in PROVIDERS
]
WINS = Account(name="wins", provider="meta", secrets=(b"s",), public_url="https://example.com/", delivery_wins=True)

SENT = Step(word="sent", says="SENT")
DELIVERED = Step(word="delivered", says="DELIVERED")
READ = Step(word="read", says="READ")
DELETED = Step(word="deleted", says="DELETED")
FAILED = Step(word="failed", says="FAILED", kind="failed", code="131026", text="Undeliverable.")
UNDELIVERED = Step(word="undelivered", says="FAILED", kind="undelivered", code="30003")
BARE = Step(word="failed", says="FAILED", kind="failed")
UNHEARD = Step(word="shipped", says=None)
QUEUED = Step(word="queued", says="QUEUED")


def a_play(seed: int = 1, run: datetime = RUN, messages: int = 300) -> traffic.Play:
    return traffic.compose(ACCOUNTS, messages, seed, run)


def a_line(*steps: Step, sender: Sender = Sender.NEVER, account: Account = ACCOUNTS[0], **fields: object) -> Line:
    """Return a message with reports that arrive in this order, a minute apart and told as they happened."""
    told = {
        "number": 0,
        "account": account,
        "channel": "whatsapp",
        "story": Story(name="made up", steps=steps),
        "sender": sender,
        "starts": 0.0,
        "queued_at": None,
        "sent_at": None,
        "accepted_as": None,
        "provider_message_id": "wamid.1",
        "participant": None,
        "recipient": "+12025550123",
        "client_reference": "order-1",
        "local_failure": None,
    }
    message = Message(**{**told, **fields})  # type: ignore[arg-type]
    return Line(message, tuple(a_report(message, step, number) for number, step in enumerate(steps)))


def a_report(message: Message, step: Step, number: int) -> Report:
    told_at = None if step.clock is Clock.ABSENT else at(number)
    return Report(
        message=message,
        step=step,
        number=number,
        happened_at=at(number),
        told_at=told_at,
        event_id=None,
        date_text=None,
        arrives=float(number),
    )


def at(minutes: int) -> datetime:
    return RUN - timedelta(minutes=60 - minutes)


def standing(place: Place) -> tuple[str, str | None, str]:
    return place.fields["status"], place.fields["status_detail"], place.fields["conflict"]


# The play -------------------------------------------------------------------------------------------------------------


def test_the_same_seed_and_run_give_the_same_play():
    assert a_play() == a_play()


def test_another_seed_gives_another_play():
    assert [call.body for call in a_play(seed=1).calls] != [call.body for call in a_play(seed=2).calls]


def test_another_run_gives_the_same_play_under_other_identifiers():
    one, other = a_play(), a_play(run=RUN + timedelta(milliseconds=1))

    assert [call.at for call in one.calls] == [call.at for call in other.calls]
    assert [line.message.story for line in one.lines] == [line.message.story for line in other.lines]
    ids = [{line.message.provider_message_id for line in play.lines} - {None} for play in (one, other)]
    assert not ids[0] & ids[1]


def test_a_run_is_named_by_its_millisecond():
    assert run_of(tag(RUN)) == RUN


def test_calls_are_numbered_in_order_and_wait_only_for_earlier_ones():
    calls = a_play().calls

    assert [call.number for call in calls] == list(range(len(calls)))
    assert all(number < call.number for call in calls for number in call.after)


def test_every_story_is_told_where_there_are_messages_enough():
    told = {(line.message.account.provider, line.message.story.name) for line in a_play(messages=500).lines}

    every = {(name, story.name) for name, provider in PROVIDERS.items() for story in (*provider.STORIES, *UNSPOKEN)}
    assert every == told


def test_every_way_of_registering_occurs():
    assert set(Sender) == {line.message.sender for line in a_play().lines}


def test_a_message_and_what_is_said_of_it_have_names_of_their_own():
    lines = a_play(messages=3_000).lines

    names = Counter((line.message.provider_message_id, line.message.participant) for line in lines)
    del names[None, None]
    assert set(names.values()) == {1}


def test_one_callback_is_repeated_46_times():
    copies = Counter(call.body for call in a_play().calls if call.expected == 200 and call.key is None)

    assert max(copies.values()) >= traffic.COPIES_MAX + 1


def test_one_request_after_an_outage_holds_many_statuses():
    statuses = [call.body.count(b'"biz_opaque_callback_data"') for call in a_play(messages=1_000).calls]

    assert max(statuses) == 200


def test_some_reports_are_overtaken_by_later_ones():
    lines = a_play().lines

    assert any(early.arrives > late.arrives for line in lines for early, late in pairwise(line.reports))
    in_order = [line for line in lines if line.message.story.in_order]
    assert all(early.arrives < late.arrives for line in in_order for early, late in pairwise(line.reports))


def test_contradicting_claims_wait_for_one_another():
    viber = [account for account in ACCOUNTS if account.provider == "viber"]  # one report a request
    play = traffic.compose(viber, 300, 1, RUN)
    contradicting = [line for line in play.lines if line.message.story.in_order]

    assert contradicting
    for line in contradicting:
        token = f'"message_token":{line.message.provider_message_id}'.encode()
        told = [call for call in play.calls if token in call.body and call.expected == 200 and not call.is_copy]
        assert [call.after for call in told] == [(), (told[0].number,)]


# The judge: the examples of the status machine ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((SENT, DELIVERED, READ), ("READ", None, "none")),
        ((READ, DELIVERED, SENT), ("READ", None, "none")),
        ((READ,), ("READ", None, "none")),
        ((SENT, UNDELIVERED, SENT), ("FAILED", "undelivered", "none")),
        ((FAILED, DELIVERED), ("FAILED", "failed", "open")),
        ((DELIVERED, FAILED), ("DELIVERED", None, "open")),
        ((DELIVERED, FAILED, READ), ("READ", None, "open")),
        ((UNDELIVERED, FAILED), ("FAILED", "undelivered", "none")),
        ((UNHEARD,), ("UNKNOWN", None, "none")),
        ((DELIVERED, DELETED), ("DELETED", None, "none")),
        ((QUEUED,), ("QUEUED", None, "none")),
    ],
)
def test_the_judge_knows_the_documented_examples(steps, expected):
    assert expected == standing(judge(a_line(*steps)))


def test_a_rule_of_the_account_settles_a_conflict_for_the_delivery():
    place = judge(a_line(FAILED, DELIVERED, READ, account=WINS))

    assert standing(place) == ("READ", None, "settled")
    assert place.fields["version"] == 4
    assert standing(judge(a_line(DELIVERED, FAILED, account=WINS))) == ("DELIVERED", None, "open")


def test_without_a_conflict_the_judge_does_not_care_about_the_order():
    line = a_line(SENT, UNDELIVERED, QUEUED, UNHEARD, sender=Sender.LATE)
    places = []
    for order in permutations(line.reports):
        arriving = [msgspec.structs.replace(report, arrives=float(turn)) for turn, report in enumerate(order)]
        places.append(judge(Line(line.message, tuple(arriving))))

    assert all(place == places[0] for place in places)


def test_times_are_told_implied_or_only_known_to_exist():
    def times(*steps: Step, **fields: object) -> dict[str, object]:
        fields_ = judge(a_line(*steps, **fields)).fields  # type: ignore[arg-type]
        return {name: value for name, value in fields_.items() if name.endswith("_at") and value is not None}

    undated = Step(word="delivered", says="DELIVERED", clock=Clock.ABSENT)
    ahead = Step(word="delivered", says="DELIVERED", clock=Clock.AHEAD)
    assert times(SENT, DELIVERED) == {"sent_at": at(0), "delivered_at": at(1)}
    assert times(READ, SENT) == {"sent_at": at(1), "delivered_at": at(0), "read_at": at(0)}
    assert times(SENT, DELETED) == {"sent_at": at(0), "delivered_at": at(1), "deleted_at": at(1)}
    assert times(undated) == {"sent_at": SOME_TIME, "delivered_at": SOME_TIME}
    assert times(ahead) == {"sent_at": SOME_TIME, "delivered_at": SOME_TIME}
    assert times(FAILED, sender=Sender.WITH_ID, queued_at=at(7), sent_at=at(8)) == {
        "queued_at": at(7),
        "sent_at": at(8),
        "failed_at": at(0),
    }


def test_the_failure_that_counts_says_something_and_is_the_earliest():
    fields = judge(
        a_line(BARE, UNDELIVERED, FAILED, Step(word="failed", says="FAILED", kind="failed", code="1"))
    ).fields

    assert (fields["failure.code"], fields["failure.text"]) == ("131026", "Undeliverable.")


def test_a_repeat_counts_once_and_the_sender_counts_too():
    place = judge(a_line(SENT, sender=Sender.WITH_ID, sent_at=at(8)))

    assert Counter({("sender", "sent", at(8), None): 1, ("callback", "sent", at(0), None): 1}) == place.observations
    assert (place.registrations, place.fields["version"]) == (1, 2)


def test_what_only_the_sender_knows():
    local = {"sender": Sender.FAILED, "local_failure": "Phone number is missing.", "provider_message_id": None}

    assert standing(judge(a_line(sender=Sender.KEPT))) == ("UNKNOWN", None, "none")
    assert standing(judge(a_line(**local))) == ("FAILED", "failed", "none")  # type: ignore[arg-type]
    assert standing(judge(a_line(sender=Sender.FIRST, channel="sms"))) == ("QUEUED", None, "none")
    assert standing(judge(a_line(sender=Sender.FIRST))) == ("SENT", None, "none")

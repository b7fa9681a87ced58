"""Who is written to, and what their providers report: messages and reports, drawn from the stories."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

import msgspec

from ledger.commands.simulation import meta, twilio, viber
from ledger.commands.simulation.model import (
    SPAN_SECONDS,
    Account,
    Clock,
    Dice,
    Ids,
    Message,
    Provider,
    Report,
    Sender,
    Story,
    second,
)

PROVIDERS: Final[Mapping[str, Provider]] = {"meta": meta, "twilio": twilio, "viber": viber}
#: Messages of a hundred that each provider carries.
SHARES: Final[Mapping[str, int]] = {"meta": 45, "twilio": 40, "viber": 15}
#: What happens to messages of which no provider ever speaks.
UNSPOKEN: Final = (
    Story(name="never mentioned", steps=(), senders=(Sender.FIRST, Sender.WITH_ID), weight=2),
    Story(name="never handed off", steps=(), senders=(Sender.KEPT,)),
    Story(name="failed before hand-off", steps=(), senders=(Sender.FAILED,), weight=2),
    Story(name="registered, then failed", steps=(), senders=(Sender.FAILED_LATER,)),
)
LOCAL_FAILURES: Final = ("Phone number is missing.", "WhatsApp template was not found.", "Message text is empty.")
#: Messages start in this part of the play; the rest of it belongs to late reports.
_STARTS: Final = (0.01, 0.6)
#: By how much a clock that runs ahead is wrong.
_FAST: Final = timedelta(days=400)


class Line(msgspec.Struct, frozen=True):
    """A message and everything that its provider reports about it, in the order of happening."""

    message: Message
    reports: tuple[Report, ...]


def write(accounts: Sequence[Account], count: int, told: Dice, ids: Ids) -> list[Line]:
    """Return about as many messages as asked for (a group is written to as a whole)."""
    lines: list[Line] = []
    shares = [SHARES[account.provider] for account in accounts]
    for index, account in enumerate(accounts):
        wanted = round(count * sum(shares[: index + 1]) / sum(shares))
        stories = _stories(PROVIDERS[account.provider], told)
        while len(lines) < wanted:
            for message in _messages(account, next(stories), len(lines), told, ids):
                lines.append(Line(message, tuple(_reports(message, told, ids))))
    return lines


def _stories(provider: Provider, told: Dice) -> Iterator[Story]:
    """Yield every story once, in any order, then those that happen often more often."""
    every = [*provider.STORIES, *UNSPOKEN]
    yield from told.sample(every, len(every))
    weights = [story.weight for story in every]
    while True:
        yield told.choices(every, weights)[0]


def _messages(account: Account, story: Story, number: int, told: Dice, ids: Ids) -> Iterator[Message]:
    """Yield one message, or one for every member of the group that it goes to."""
    provider = PROVIDERS[account.provider]
    recipient, provider_message_id = provider.address(story, told, ids, number)
    starts = SPAN_SECONDS * told.uniform(*_STARTS)
    is_group = story.people > 1
    sender = Sender.NEVER if is_group else told.choice(story.senders)
    is_sent = sender not in (Sender.KEPT, Sender.FAILED, Sender.FAILED_LATER)
    channel = story.channel or provider.CHANNEL
    accepted_as = told.choice((None, "queued", "accepted", "sent")) if channel == "sms" else None
    says_when = accepted_as in (None, "sent") and told.chance(0.6)
    for member in range(story.people):
        yield Message(
            number=number + member,
            account=account,
            channel=channel,
            story=story,
            sender=sender,
            starts=starts,
            queued_at=second(ids.run, starts - told.uniform(1, 8)) if told.chance(0.5) else None,
            sent_at=second(ids.run, starts) if says_when else None,
            accepted_as=accepted_as,
            provider_message_id=provider_message_id if is_sent else None,
            participant=f"120255501{told.randrange(10)}{member}" if is_group else None,
            recipient=recipient,
            client_reference=f"order-{ids.text('order', number, 12)}",
            local_failure=None if is_sent or sender is Sender.KEPT else told.choice(LOCAL_FAILURES),
        )


def _reports(message: Message, told: Dice, ids: Ids) -> Iterator[Report]:
    """Yield what is reported. Some reports take minutes to arrive, and are overtaken by later ones."""
    provider = PROVIDERS[message.account.provider]
    happens, arrived = message.starts, 0.0
    for number, step in enumerate(message.story.steps):
        happens += 0.0 if step.clock is Clock.SAME else told.uniform(*step.after)
        happened_at = second(ids.run, happens) + (_FAST if step.clock is Clock.AHEAD else timedelta())
        name = ids.text("event", message.number * 100 + number)
        dating = provider.dated(message.story, step, happened_at, name, told)
        arrives = happens + (told.uniform(0.05, 2) if told.chance(0.8) else told.uniform(2, 240))
        if message.story.in_order:
            arrives = max(arrives, arrived + 1)
        arrived = arrives
        yield Report(
            message=message,
            step=step,
            number=number,
            happened_at=happened_at,
            told_at=dating.told_at,
            event_id=dating.event_id,
            date_text=dating.date_text,
            arrives=arrives,
        )

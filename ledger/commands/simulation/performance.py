"""A play from its first request to the verdict."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ledger.commands.simulation.critic import Critic
from ledger.commands.simulation.model import tag
from ledger.commands.simulation.play import CONNECTIONS, Stage
from ledger.commands.simulation.script import Line
from ledger.commands.simulation.traffic import Play
from ledger.commands.simulation.verdict import judge
from ledger_client.transport import Answer, Transport


class WrongAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was not answered as it must be."""

    request: int
    target: str
    must_answer: int
    answers: int  #: 0: it was never sent, because an earlier request failed


class WrongMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that does not stand where it must."""

    message_id: int | None
    account: str
    story: str
    sender: str
    differences: list[str]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a performance came to."""

    seed: int
    run: str
    url: str
    messages: int
    requests: int
    duplicates: int  #: requests that were copies of another
    unwelcome: int  #: requests that had to be turned away
    retried: int  #: requests that had to be sent again, for lack of an answer or because they were told to come back
    conflicts: int  #: messages whose reports contradict one another
    answered: dict[str, int]
    checked: int
    wrong: list[WrongAnswer | WrongMessage]
    seconds: float
    requests_per_second: float


def perform(play: Play, client: Transport, keys: Mapping[tuple[str, str], str], *, seconds: float) -> Result:
    """Play, then check every message. Raises Unreachable; Stopped once the client is stopped."""
    with _progress() as progress:
        playing = progress.add_task("playing", total=len(play.calls))
        checking = progress.add_task("checking", total=len(play.lines))
        stage = Stage(play.calls, client, keys, seconds=seconds, on_answer=lambda: progress.advance(playing))
        began = time.monotonic()
        stage.play()
        took = time.monotonic() - began
        wrong: list[WrongAnswer | WrongMessage] = list(_wrong_answers(play, stage.answers))
        for line, differences in _checked(play.lines, client, Critic(client, keys, stage.message_ids)):
            progress.advance(checking)
            if differences:
                wrong.append(_wrong_message(line, stage.message_ids, differences))
    answered = Counter(str(answer.status) for answer in stage.answers.values())
    return Result(
        seed=play.seed,
        run=tag(play.run),
        url=client.url,
        messages=len(play.lines),
        requests=len(play.calls),
        duplicates=sum(call.is_copy for call in play.calls),
        unwelcome=sum(call.expected >= 400 for call in play.calls),
        retried=sum(answer.attempts > 1 for answer in stage.answers.values()),
        conflicts=sum(judge(line).fields["conflict"] != "none" for line in play.lines),
        answered=dict(sorted(answered.items())),
        checked=len(play.lines),
        wrong=wrong,
        seconds=round(took, 3),
        requests_per_second=round(len(play.calls) / took, 1),
    )


def _wrong_answers(play: Play, answers: Mapping[int, Answer]) -> Iterator[WrongAnswer]:
    for call in play.calls:
        status = answers[call.number].status
        if status != call.expected:
            yield WrongAnswer(
                request=call.number, target=call.target.partition("?")[0], must_answer=call.expected, answers=status
            )


def _checked(lines: Sequence[Line], client: Transport, critic: Critic) -> Iterator[tuple[Line, list[str]]]:
    """Yield each line with what is wrong about it."""
    with ThreadPoolExecutor(CONNECTIONS) as judges:
        try:
            yield from zip(lines, judges.map(critic.differences, lines), strict=True)
        except BaseException:
            client.stop()  # or the pool would wait for every request on its way
            raise


def _wrong_message(line: Line, message_ids: Mapping[int, int], differences: list[str]) -> WrongMessage:
    message = line.message
    return WrongMessage(
        message_id=message_ids.get(message.number),
        account=message.account.name,
        story=message.story.name,
        sender=message.sender.value,
        differences=differences,
    )


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show bars on a terminal, on standard error; nothing elsewhere."""
    columns = (TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        yield progress

"""One message: where it stands, what is still expected, its timeline, and everything that was said about it.

The page can be rewound to what was on record at an instant (`as_of`), by our clock of recording.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.message import Message
from ledger.domain.reading import Basis, is_final, keep_polling, may_still_become
from ledger.domain.status import SENTENCES, Status, Verdict
from ledger.http import queries, render
from ledger.http.edge import Edge
from ledger.http.problems import Problem, timestamp
from ledger.http.shapes import HistoryItem
from ledger.screens import rendering
from ledger.screens.access import Permission, Viewer
from ledger.screens.failure_card import FailureCard, card
from ledger.screens.formats import STATUS_WORDS, between
from ledger.store import access_log
from ledger.store.application import Archived, Ledger
from ledger.surfaces.vocabulary import Step, StepState, timeline
from projections.current_status import CurrentStatus, Opened

#: Observations that moved nothing are shown in grey.
_MOVED_NOTHING: Final = (Verdict.LATE, Verdict.REPEAT, Verdict.NOTE, Verdict.REDELIVERED)
_BASES: Final = {
    Basis.PROVIDER: "the provider's clock",
    Basis.IMPLIED: "implied by a later status",
    Basis.RECEIVED: "our clock, at receipt",
}


class ShownStep(NamedTuple):
    """A step of the timeline. `state` is done, next or never; `delta` the time since the step before."""

    status: Status
    label: str
    state: StepState
    at: datetime | None
    basis: str | None
    delta: str | None
    note: str  #: why there is no time


class ShownItem(NamedTuple):
    """One recorded event. `delta` is the time since the one before, by our clock of recording."""

    item: HistoryItem
    delta: str | None
    is_grey: bool
    id: str


class Told(NamedTuple):
    """What the page shows, at one instant."""

    opened: Opened
    message: Message  #: as of the instant
    items: list[ShownItem]
    instants: list[str]  #: places of the slider: recording times, oldest first; the last is now
    place: int  #: of the slider
    failure: FailureCard | None


class MessagePage:
    """Handlers."""

    def __init__(self, *, edge: Edge, ledger: Ledger, messages: CurrentStatus) -> None:
        self._edge = edge
        self._ledger = ledger
        self._messages = messages

    async def show(self, request: Request) -> Response:
        query = queries.parameters(request, ("as_of",))
        as_of = queries.instant(query, "as_of")
        viewer, asked = rendering.viewer_of(request), queries.message_id(request.path_params["message_id"])
        told = await self._edge.read(self._told, viewer, asked, as_of)
        message = told.message
        return rendering.page(
            request,
            "message.html",
            asked=asked,
            told=told,
            message=message,
            person=told.opened.message.person,
            as_of=as_of,
            steps=_steps(message),
            is_final=is_final(message),
            sentence=SENTENCES[message.status],
            expected=expectation(message),
            claims=render.message(told.opened, asked, "").conflict_claims,
            tag=tag(told.opened),
            may_see_evidence=viewer.may(Permission.EVIDENCE),
        )

    def _told(self, viewer: Viewer, asked: int, as_of: datetime | None) -> Told:
        opened = visible(self._messages, viewer, asked)
        access_log.record(
            self._ledger, viewer.name, "history", message_id=asked, account=opened.message.account, detail="page"
        )
        try:
            history = self._ledger.history(opened.stream_id)
        except Archived as archived:
            raise Problem("archived", "Whoever runs the service can restore it.") from archived
        shown = render.as_of(history, as_of, render.RECORDED)
        steps = list(render.replay(shown))
        message = steps[-1][1] if steps else Message(channel=opened.message.channel)
        items = [item for item, _ in steps]
        return Told(
            opened=opened,
            message=opened.message if as_of is None else message,
            items=_items(items),
            instants=[timestamp(recorded.recorded_at) for recorded in history],
            place=len(history) if as_of is None else len(shown) - 1,
            failure=card(opened.message if as_of is None else message),
        )


def visible(messages: CurrentStatus, viewer: Viewer, message_id: int) -> Opened:
    """Return a message that a viewer may see. Raises Problem `not_found`: any other does not exist for them."""
    opened = messages.get(message_id)
    if opened is None or not viewer.sees(opened.message.account, opened.message.channel):
        raise Problem("not_found", "There is no message of this id, or it is not one of yours.")
    return opened


def tag(opened: Opened) -> str:
    """Return what changes whenever anything about a message does."""
    return f"{opened.stream_id.hex[:8]}-{opened.version}"


def expectation(message: Message) -> str:
    """Say whether this is the end, and what may still come."""
    later = may_still_become(message)
    if is_final(message):
        if not later:
            return "This is final. Nothing more is expected."
        return f"Delivered is certain. It may still become {_either(later)}."
    if message.evidence.closed:
        return "The provider says that no further report will come."
    if not keep_polling(message):
        return "Nothing more is expected."
    return f"This is not final. Next comes {_either(later)}."


def _either(statuses: Sequence[Status]) -> str:
    words = [STATUS_WORDS[status].lower() for status in statuses]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _steps(message: Message) -> list[ShownStep]:
    shown: list[ShownStep] = []
    before: datetime | None = None
    steps = timeline(message)
    reached = max((place for place, step in enumerate(steps) if _is_reached(step)), default=-1)
    for place, step in enumerate(steps):
        delta = between(step.at, before) if step.at is not None and before is not None else None
        basis = _BASES[step.basis] if step.basis is not None else None
        note = (
            "still expected" if step.state is StepState.NEXT else "not reported" if place < reached else "will not come"
        )
        shown.append(ShownStep(step.status, step.label, step.state, step.at, basis, delta, note))
        before = step.at or before
    return shown


def _is_reached(step: Step) -> bool:
    return step.state is StepState.DONE and step.status is not Status.FAILED


def _items(items: Sequence[HistoryItem]) -> list[ShownItem]:
    shown: list[ShownItem] = []
    before: HistoryItem | None = None
    for item in items:
        delta = between(item.recorded_at, before.recorded_at) if before is not None else None
        is_grey = item.verdict in _MOVED_NOTHING
        shown.append(ShownItem(item, delta, is_grey, f"event-{item.stream_id[:8]}-{item.version}"))
        before = item
    return shown

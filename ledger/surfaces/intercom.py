"""The Intercom Inbox App: canvases of Canvas Kit that show what was sent in a conversation and how it stands.

A canvas of the Inbox is static. It shows what was true when it was made, so it says when that was, and has a button to
look again. What came from a provider or a sender is never read as markup: a text component understands links and bold.

Sources: Intercom's OpenAPI 2.11 (component schemas; a content may have 64 KB), its Canvas Kit pages, seed 000 for the
words. Read 2026-11-25.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from ledger.domain.events import (
    AnyEvent,
    MessageErased,
    MessageLinked,
    MessageRegistered,
    StatusCorrected,
    StatusObserved,
)
from ledger.domain.message import Message, evolve
from ledger.domain.reading import last_updated, time_of
from ledger.domain.status import Conflict, Status
from ledger.store.application import RecordedEvent
from ledger.surfaces.vocabulary import CHANNEL_NAMES, Surface, clock, word, word_of
from ledger.wire.contract import Secret
from projections.current_status import Opened, reason

#: Messages a page, and the latest events of a message: more would not fit a side bar.
PAGE: Final = 8
EVENTS_MAX: Final = 12
#: A value that is longer is cut; the Inbox shows less of it anyway.
_CHARACTERS_MAX: Final = 160
_TEXT_CHARACTERS_MAX: Final = 600

REFRESH, BACK, OLDER, NEWEST, DONE = "refresh", "back", "older", "newest", "done"
_MESSAGE: Final = "msg:"


class IntercomSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The table `[intercom]`."""

    secrets: tuple[Secret, ...]  #: client secrets of the app; any of them may sign
    workspaces: Mapping[str, tuple[str, ...]]  #: workspace id -> accounts whose messages its teammates may see


# Canvas Kit -----------------------------------------------------------------------------------------------------------


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Asks us for another canvas."""


class TextComponent(msgspec.Struct, frozen=True, kw_only=True, tag="text", omit_defaults=True):
    text: str
    style: str | None = None  #: header, paragraph, muted or error


class ListItem(msgspec.Struct, frozen=True, kw_only=True, tag="item", omit_defaults=True):
    id: str
    title: str
    subtitle: str | None = None
    tertiary_text: str | None = None
    action: Submit | None = None


class ListComponent(msgspec.Struct, frozen=True, kw_only=True, tag="list"):
    items: tuple[ListItem, ...]


class FieldValue(msgspec.Struct, frozen=True, kw_only=True, tag="field-value"):
    field: str
    value: str


class DataTable(msgspec.Struct, frozen=True, kw_only=True, tag="data-table"):
    items: tuple[FieldValue, ...]


class ButtonComponent(msgspec.Struct, frozen=True, kw_only=True, tag="button"):
    id: str
    label: str
    style: str
    action: Submit


class Divider(msgspec.Struct, frozen=True, tag="divider"):
    pass


Component = TextComponent | ListComponent | DataTable | ButtonComponent | Divider


class StoredData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comes back with the next click: what is shown, and what comes after it."""

    view: str  #: list or message
    as_of: str
    message: int | None = None
    before: str | None = None  #: where the shown page of the list begins
    older: str | None = None  #: where the next one does


class Content(msgspec.Struct, frozen=True):
    components: tuple[Component, ...]


class Canvas(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    content: Content
    stored_data: StoredData | None = None


class CanvasAnswer(msgspec.Struct, frozen=True):
    """What the Inbox shows next."""

    canvas: Canvas


class ResultsAnswer(msgspec.Struct, frozen=True):
    """Ends the configuration."""

    results: dict[str, str]


# Requests -------------------------------------------------------------------------------------------------------------


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What counts of a request. Everything but the workspace may be missing: payloads in the wild differ."""

    workspace_id: str
    component_id: str = ""
    conversation_id: str | None = None
    phone: str | None = None
    view: str = ""
    message: int | None = None
    before: str | None = None
    older: str | None = None

    @property
    def opens(self) -> int | None:
        """The message whose row was clicked."""
        digits = self.component_id.removeprefix(_MESSAGE)
        is_row = digits != self.component_id and re.fullmatch(r"[0-9]{1,16}", digits)
        return int(digits) if is_row else None


def read(body: bytes) -> Asked | None:
    """Return what a signed request asks; None if it cannot be read."""
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    workspace_id = _text(told, "workspace_id") or _text(told, "app_id")  # as it was called up to version 1.2
    if workspace_id is None:
        return None
    contact = _object(told, "contact") or _object(told, "customer")  # as it was called up to version 1.4
    stored = _object(_object(told, "current_canvas"), "stored_data")
    message = stored.get("message")
    return Asked(
        workspace_id=workspace_id,
        component_id=_text(told, "component_id") or "",
        conversation_id=_text(_object(told, "conversation"), "id")
        or _text(_object(told, "context"), "conversation_id"),
        phone=_text(contact, "phone"),
        view=_text(stored, "view") or "",
        message=message if type(message) is int and 0 < message < 1 << 53 else None,
        before=_text(stored, "before"),
        older=_text(stored, "older"),
    )


def _object(told: Any, name: str) -> dict[str, Any]:
    value = told.get(name) if isinstance(told, dict) else None
    return value if isinstance(value, dict) else {}


def _text(told: Any, name: str) -> str | None:
    """Return a member as text: ids come as numbers too."""
    value = told.get(name) if isinstance(told, dict) else None
    if type(value) is int:
        value = str(value)
    return value if isinstance(value, str) and 0 < len(value) <= 512 and "\x00" not in value else None


# Canvases -------------------------------------------------------------------------------------------------------------


def sent_messages(
    page: Sequence[Opened], as_of: datetime, *, before: str | None = None, older: str | None = None
) -> CanvasAnswer:
    """Show what was sent, newest first. `before`: where this page begins; `older`: where the next one does."""
    components: list[Component] = [_header("Sent messages")]
    if page:
        components.append(ListComponent(items=tuple(map(_row, page))))
    else:
        components.append(_muted("No messages are recorded for this conversation or contact."))
    components += [_as_of(as_of), _button(REFRESH, "Refresh")]
    components += [_button(OLDER, "Older", "link")] * (older is not None)
    components += [_button(NEWEST, "Newest", "link")] * (before is not None)
    stored = StoredData(view="list", as_of=_iso(as_of), before=before, older=older)
    return _answer(components, stored)


def _row(opened: Opened) -> ListItem:
    message = opened.message
    updated = last_updated(message)
    why = reason(message)
    to = f" to {message.person.recipient}" if message.person.recipient else ""
    return ListItem(
        id=f"{_MESSAGE}{opened.shown_id}",
        title=word_of(Surface.INTERCOM, message).with_icon,
        subtitle=_cut(why.title if why is not None else f"{CHANNEL_NAMES[message.channel]}{to}"),
        tertiary_text=clock(updated) if updated else None,
        action=Submit(),
    )


def detail(
    opened: Opened, events: Sequence[RecordedEvent], as_of: datetime, *, before: str | None = None
) -> CanvasAnswer:
    """Show one message: where it stands, why it failed and what to do, and what was said when."""
    message = opened.message
    components: list[Component] = [_header(f"{CHANNEL_NAMES[message.channel]} message")]
    components += _failure(message)
    components.append(DataTable(items=tuple(_fields(opened))))
    if message.conflict is Conflict.OPEN:
        components.append(_muted("The reports contradict one another. The first outcome stands until it is decided."))
    components += [Divider(), _header("History"), ListComponent(items=tuple(_history(events)))]
    if len(events) > EVENTS_MAX:
        components.append(_muted(f"The latest {EVENTS_MAX} of {len(events)} entries."))
    components += [_as_of(as_of), _button(REFRESH, "Refresh"), _button(BACK, "Back", "link")]
    stored = StoredData(view="message", as_of=_iso(as_of), message=opened.shown_id, before=before)
    return _answer(components, stored)


def _failure(message: Message) -> list[Component]:
    why = reason(message)
    if why is None:
        return []
    return [
        TextComponent(text=_plain(why.title), style="error"),
        TextComponent(text=_plain(why.advice), style="paragraph"),
    ]


def _fields(opened: Opened) -> list[FieldValue]:
    message, person = opened.message, opened.message.person
    updated, why = last_updated(message), reason(message)
    shown: list[tuple[str, str | None]] = [
        ("Delivery Status", word_of(Surface.INTERCOM, message).with_icon),
        ("Failure reason", why.text if why else None),
        ("Failure code", why.code if why else None),
        ("Last update", clock(updated) if updated else None),
        ("To", person.recipient),
        *((label, _time(message, status)) for label, status in _TIMES.items()),
        ("Provider", message.provider),
        ("Provider id", person.provider_message_id),
        ("Your reference", person.client_reference),
        ("Message id", str(opened.shown_id)),
    ]
    return [FieldValue(field=field, value=_cut(value)) for field, value in shown if value]


_TIMES: Final = {"Sent": Status.SENT, "Delivered": Status.DELIVERED, "Read": Status.READ, "Failed": Status.FAILED}


def _time(message: Message, status: Status) -> str | None:
    instant = time_of(message, status)
    return clock(instant.at) if instant is not None else None


def _history(events: Sequence[RecordedEvent]) -> list[ListItem]:
    """Return the latest events first, each with the status after it."""
    message, rows = Message(), []
    for recorded in events:
        message = evolve(message, recorded.event)
        event = recorded.event
        told = event.occurred_at if isinstance(event, StatusObserved) and event.believed else None
        label = word(Surface.INTERCOM, message.channel, message.status).label
        rows.append(
            ListItem(
                id=f"event:{recorded.stream_id.hex[:8]}:{recorded.version}",
                title=_cut(f"{_said(event)} → {label}"),
                subtitle=clock(told or event.received_at),
                tertiary_text=f"received {_later(event.received_at, told)}" if told else None,
            )
        )
    return rows[: -EVENTS_MAX - 1 : -1]


def _said(event: AnyEvent) -> str:
    match event:
        case StatusObserved(personal=personal):
            return f"{event.source.capitalize()}: {personal.provider_status or event.claim.lower()}"
        case MessageRegistered():
            return "Registered"
        case MessageLinked():
            return "Handed off"
        case StatusCorrected():
            return f"Corrected to {event.to}"
        case MessageErased():
            return "Erased"


def _later(received_at: datetime, told: datetime) -> str:
    seconds = round((received_at - told).total_seconds())
    if seconds < 0:
        return "at once"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} later"
    return f"{seconds} s later"


def gone(as_of: datetime) -> CanvasAnswer:
    """Say that a message cannot be shown: it is not, or no longer, one of this workspace's accounts."""
    components: list[Component] = [_header("Sent messages"), _error("This message is not recorded here.")]
    return _answer([*components, _button(BACK, "Back", "link")], StoredData(view="list", as_of=_iso(as_of)))


def unavailable() -> CanvasAnswer:
    """Say that we cannot look right now: anything but a canvas would be shown as a fault of the app."""
    return _answer(
        [_header("Sent messages"), _error("The status is not available right now."), _button(REFRESH, "Try again")]
    )


def not_connected() -> CanvasAnswer:
    text = "This workspace is not connected to the ledger. Ask whoever runs it to add the workspace id."
    return _answer([_header("Sent messages"), _error(text)])


def unreadable() -> CanvasAnswer:
    return _answer([_header("Sent messages"), _error("This request cannot be read.")])


def configuration(accounts: Sequence[str]) -> CanvasAnswer:
    """Show which accounts a workspace's teammates will see."""
    rows = tuple(FieldValue(field="Account", value=_cut(account)) for account in accounts)
    text = "Teammates see where each message of these accounts stands, beside the conversation it belongs to."
    return _answer([_header("Message status"), _text_of(text), DataTable(items=rows), _button(DONE, "Done", "primary")])


# Parts ----------------------------------------------------------------------------------------------------------------


def _answer(components: Sequence[Component], stored: StoredData | None = None) -> CanvasAnswer:
    return CanvasAnswer(Canvas(content=Content(tuple(components)), stored_data=stored))


def _header(text: str) -> TextComponent:
    return TextComponent(text=text, style="header")


def _muted(text: str) -> TextComponent:
    return TextComponent(text=text, style="muted")


def _error(text: str) -> TextComponent:
    return TextComponent(text=text, style="error")


def _text_of(text: str) -> TextComponent:
    return TextComponent(text=text, style="paragraph")


def _button(id_: str, label: str, style: str = "secondary") -> ButtonComponent:
    return ButtonComponent(id=id_, label=label, style=style, action=Submit())


def _as_of(as_of: datetime) -> TextComponent:
    return _muted(f"As of {clock(as_of)}")


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _plain(text: str) -> str:
    """Return a text in which a text component finds no link and nothing bold, of a length that can be shown."""
    return re.sub(r"\](?=\()", "] ", _cut(text, _TEXT_CHARACTERS_MAX).replace("**", "* *"))


def _cut(text: str, characters: int = _CHARACTERS_MAX) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= characters else flat[: characters - 1] + "…"

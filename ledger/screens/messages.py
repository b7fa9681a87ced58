"""The list of messages: one search box, chips that write into it, pages by cursor. The address holds all of it."""

from typing import Final, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from ledger.domain.status import Channel, Status
from ledger.http import queries
from ledger.http.edge import Edge
from ledger.screens import rendering
from ledger.screens.access import Viewer
from ledger.screens.formats import STATUS_WORDS
from ledger.screens.search_words import Asked, parse
from ledger.surfaces.vocabulary import CHANNEL_NAMES
from projections.current_status import reason
from projections.message_search import Found, MessageSearch, Place, Search

PAGE: Final = 50


class Chip(NamedTuple):
    """A filter that a click puts into the search, or takes out of it."""

    text: str
    name: str
    value: str


#: Filters of the list, in groups.
CHIPS: Final[tuple[tuple[Chip, ...], ...]] = (
    (
        *(
            Chip(STATUS_WORDS[status], "status", status.lower())
            for status in (Status.FAILED, Status.QUEUED, Status.SENT, Status.DELIVERED, Status.READ)
        ),
        Chip("Conflict", "conflict", "open"),
    ),
    tuple(Chip(CHANNEL_NAMES[channel], "channel", channel.value) for channel in Channel),
    (Chip("Last hour", "since", "1h"), Chip("24 hours", "since", "24h"), Chip("7 days", "since", "7d")),
)


class Shown(NamedTuple):
    """A chip as it is shown."""

    chip: Chip
    is_on: bool
    href: str


class MessagesPage:
    """Handlers."""

    def __init__(self, *, edge: Edge, search: MessageSearch) -> None:
        self._edge = edge
        self._search = search

    async def show(self, request: Request) -> Response:
        told = queries.parameters(request, ("q", "cursor"))
        visit, viewer = rendering.of(request), rendering.viewer_of(request)
        asked = parse(told.get("q", ""), visit.now)
        before = queries.decode_cursor(told)
        found = await self._edge.read(self._find, viewer, asked, before)
        older = address(str(asked), queries.encode_cursor(*found.after)) if found.after is not None else None
        return rendering.page(
            request,
            "messages.html",
            asked=asked,
            typed=told.get("q", ""),
            groups=[[_shown(chip, asked) for chip in group] for group in CHIPS],
            rows=[(opened, reason(opened.message)) for opened in found.messages],
            is_cut=found.is_cut,
            looked_to=found.after[0] if found.after is not None else None,
            older=older,
            newest=address(str(asked)),
            is_first=before is None,
            many_accounts=viewer.accounts is None or len(viewer.accounts) > 1,
        )

    def _find(self, viewer: Viewer, asked: Asked, before: Place | None) -> Found:
        scopes = [
            (account, channel)
            for account, channel in viewer.scopes(self._search.scopes())
            if (not asked.channels or channel in asked.channels) and (not asked.accounts or account in asked.accounts)
        ]
        search = Search(
            scopes=tuple(scopes),
            term=asked.term,
            statuses=asked.statuses,
            providers=asked.providers,
            failure_category=asked.failure_category,
            conflict=asked.conflict,
            since=asked.since,
            until=asked.until,
        )
        return self._search.find(search, before=before, limit=PAGE)


def _shown(chip: Chip, asked: Asked) -> Shown:
    return Shown(chip, asked.has(chip.name, chip.value), address(asked.toggled(chip.name, chip.value)))


def address(search: str, cursor: str | None = None) -> str:
    """Return the address of a list."""
    told = {name: value for name, value in (("q", search), ("cursor", cursor)) if value}
    return f"/?{urlencode(told)}" if told else "/"

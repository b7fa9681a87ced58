"""The table of pages, without the handlers behind it: tests ask a running server, and look here for what to ask."""

import inspect
from typing import Any

from ledger.screens.routes import Screen, table


class _Handlers:
    """Stands where the handlers of a page would: they are not called here."""

    def __getattr__(self, name: str) -> Any:
        return name


SCREENS: list[Screen] = table(**{name: _Handlers() for name in inspect.signature(table).parameters})  # type: ignore[arg-type]


def path_of(screen: Screen, message_id: int) -> str:
    return screen.path.replace("{message_id}", str(message_id))

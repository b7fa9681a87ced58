"""A planted error: whoever has a key sees every account's messages. Python imports a module of this name by itself."""

from typing import Any

from ledger.http import api
from ledger.http.problems import Problem


def _visible(self: Any, _key: Any, message_id: int) -> Any:
    opened = self._messages.get(message_id)
    if opened is None:
        raise Problem("not_found", "There is no such message.")
    return opened


api.NativeApi._visible = _visible  # type: ignore[method-assign]

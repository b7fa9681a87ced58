"""A planted error: callbacks are answered 200 once they are queued, and not once they are committed.

Python imports a module of this name before anything else, so every process of a service that is started with this
directory in PYTHONPATH has the error, and the product needs no switch for it.
"""

from typing import Any

from ledger.http import webhooks

_record = webhooks.Webhooks._record


def _answer_first(self: Any, admitted: Any, body: bytes, reply: Any) -> None:
    _record(self, admitted, body, lambda _answer: None)
    reply(webhooks.TAKEN)


webhooks.Webhooks._record = _answer_first  # type: ignore[method-assign]

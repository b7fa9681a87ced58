"""A planted error: something is kept of every callback, for ever.

`planted/answers_first` tells how this gets into the service.
"""

from typing import Any

from ledger.http import webhooks

_record = webhooks.Webhooks._record
_kept: list[bytearray] = []


def _keep(self: Any, admitted: Any, body: bytes, reply: Any) -> None:
    _kept.append(bytearray(b"x" * 100_000))
    _record(self, admitted, body, reply)


webhooks.Webhooks._record = _keep  # type: ignore[method-assign]

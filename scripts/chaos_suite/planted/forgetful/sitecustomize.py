"""A planted error: what was said before is not known again, as if every report had an identity of its own.

`planted/answers_first` tells how this gets into the service.
"""

from os import urandom
from typing import Any

from ledger.domain import identity


def _always_new(_names: Any, *_told: Any) -> bytes:
    return urandom(16)


identity.Names.observation = _always_new  # type: ignore[method-assign]

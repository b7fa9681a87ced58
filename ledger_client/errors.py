"""What can go wrong.

LedgerError
├── Unreachable     nobody answers, or nobody has time for us, for longer than we are patient
├── Stopped         the client was told to stop
└── Refused         the answer is a problem; `code` says which
    └── NotFound    no such message for this key
"""

from datetime import datetime
from typing import Any

import msgspec


class LedgerError(Exception):
    """Everything that this package raises."""


class Unreachable(LedgerError):
    """Nobody answers at the server's address."""


class Stopped(LedgerError):
    """The client was told to stop; nothing more is sent."""


class FieldProblem(msgspec.Struct, frozen=True):
    field: str
    message: str


class _Problem(msgspec.Struct, frozen=True):
    """RFC 9457."""

    title: str = ""
    detail: str = ""
    code: str = ""
    request_id: str = ""
    errors: tuple[FieldProblem, ...] = ()
    retry_at: datetime | None = None


class Refused(LedgerError):
    """The server has answered with a problem."""

    def __init__(self, status: int, problem: _Problem) -> None:
        super().__init__(f"{status} {problem.code or 'no problem details'}: {problem.detail or problem.title}")
        self.status = status
        self.code = problem.code  #: one of the codes in the API's documentation; empty if a proxy answered
        self.detail = problem.detail
        self.errors = problem.errors
        self.request_id = problem.request_id  #: to be quoted when asking about it
        self.retry_at = problem.retry_at


class NotFound(Refused):
    """No message of this id is visible to the key."""


def refusal(status: int, body: bytes) -> Refused:
    """Return the error for an answer that is no success."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = _Problem()
    kind: Any = NotFound if status == 404 and problem.code == "not_found" else Refused
    error: Refused = kind(status, problem)
    return error

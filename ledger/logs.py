"""Logging: one event name per fact, details as fields, and nothing personal whatever a caller passes.

Fields that may carry a body, a secret or an address are dropped by name; what looks like a phone number, a provider's
message id that contains one, or a key is masked wherever it appears. Of exceptions that are not ours only the type and
the place are logged: their texts quote what they choked on, and so do the database's.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Final

import structlog

_DROPPED: Final = frozenset(
    {
        "authorization",
        "body",
        "evidence",
        "headers",
        "item",
        "key",
        "password",
        "payload",
        "phone",
        "recipient",
        "secret",
    }
    | {"signature", "token", "url", "x-octopods-auth"}
)
#: Packages whose exceptions say nothing that must not be logged (style guide, section 7).
_OURS: Final = ("ledger", "projections")
_MASKS: Final = (
    (re.compile(r"wamid\.[A-Za-z0-9+/=_-]+"), "wamid.***"),
    (re.compile(r"slk_[A-Za-z0-9_-]+"), "slk_***"),
    (re.compile(r"(postgres(?:ql)?://[^:/@\s]*):[^@\s]*@"), r"\1:***@"),
    (re.compile(r"(?<![\w.-])(?:\+|%2[Bb])?\d{8,15}(?![\w-]|\.\d)"), "***"),
)


def configure(log_format: str, level: str) -> None:
    """Send everything, the libraries' own records included, to standard error as JSON lines or for a console."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(trace),
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("httpx", "httpcore"):  # they name whole addresses, and a provider's ids are in them
        logging.getLogger(name).disabled = True


def trace(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    """Write an exception and what led to it, causes first."""
    error: BaseException | None = exc_info[1]
    told: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        told.append("".join([*traceback.format_tb(error.__traceback__), _named(error)]))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(reversed(told))


def _named(error: BaseException) -> str:
    kind = type(error)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.partition(".")[0] in _OURS:
        return f"{name}: {error}"
    state = getattr(error, "sqlstate", None)
    return f"{name} (SQLSTATE {state})" if state else name


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Drop fields that may carry secrets or addresses and mask what looks like one in the rest."""
    return {
        name: value if name in ("timestamp", "level") else _masked(value)
        for name, value in event.items()
        if name.lower() not in _DROPPED
    }


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        for pattern, replacement in _MASKS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {name: _masked(inner) for name, inner in value.items() if str(name).lower() not in _DROPPED}
    if isinstance(value, list | tuple):
        return [_masked(inner) for inner in value]
    return value

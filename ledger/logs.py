"""Logging: one event name per fact, details as fields, and nothing personal whatever a caller passes.

Fields that may carry a body, a secret or an address are dropped by name; what looks like a phone number, a provider's
message id that contains one, or a key is masked wherever it appears.
"""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
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
_MASKS: Final = (
    (re.compile(r"wamid\.[A-Za-z0-9+/=_-]+"), "wamid.***"),
    (re.compile(r"slk_[A-Za-z0-9_-]+"), "slk_***"),
    (re.compile(r"(postgres(?:ql)?://[^:/@\s]*):[^@\s]*@"), r"\1:***@"),
    (re.compile(r"(?<![\w.:-])\+?\d{8,15}(?![\w.:-])"), "***"),
)


def configure(log_format: str, level: str) -> None:
    """Send everything, the libraries' own records included, to standard error as JSON lines or for a console."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer()
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

"""How single values of settings are read. What is wrong is said without the value."""

import base64
import binascii
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from ledger.wire.contract import Secret

T = TypeVar("T")


def resolve(text: str, environ: Mapping[str, str]) -> Secret:
    """Return a secret given literally, as `env:NAME` or as `file:PATH`. Raises ValueError without the value."""
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise ValueError(f"environment variable {name} is not set")
        return Secret(environ[name])
    if text.startswith("file:"):
        path = Path(text.removeprefix("file:"))
        try:
            content = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise ValueError(f"file {path} cannot be read") from None
        if not content:
            raise ValueError(f"file {path} is empty")
        return Secret(content)
    if not text:
        raise ValueError("is empty")
    return Secret(text)


def decode_key(secret: Secret, bytes_min: int, bytes_max: int) -> Secret:
    """Return the bytes of a base64 secret. Raises ValueError for another alphabet or length."""
    try:
        raw = base64.b64decode(secret.reveal(), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if not bytes_min <= len(raw) <= bytes_max:
        bound = f"{bytes_min}" if bytes_min == bytes_max else f"{bytes_min} to {bytes_max}"
        raise ValueError(f"must be the base64 form of {bound} bytes")
    return Secret(raw)


def named(field: str, read: Callable[[str, Mapping[str, str]], T], text: str, environ: Mapping[str, str]) -> T:
    try:
        return read(text, environ)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def public_url(url: str) -> str:
    """Return the URL without user info and fragment, which providers neither send nor sign."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must start with http:// or https:// and name a host")
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path or "/", parts.query, ""))

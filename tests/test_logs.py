"""Logging: one line of JSON a fact, and nothing personal whatever a caller passes."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import structlog

from ledger import logs
from ledger.store.application import StoreUnavailable
from tests.http.callbacks import new_wamid

PHONE = "15558675309"


@pytest.fixture
def configured() -> Iterator[Callable[..., None]]:
    """Configure logging, and put everything back afterwards."""
    root, access = logging.getLogger(), logging.getLogger("uvicorn.access")
    handlers, level, disabled = root.handlers[:], root.level, access.disabled

    def configure(log_format: str = "json", log_level: str = "debug") -> None:
        logs.configure(log_format, log_level)

    yield configure
    root.handlers[:], access.disabled = handlers, disabled
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def begin(configured, capsys) -> Callable[[], Callable[[], list[dict[str, Any]]]]:
    """Configure, and return a function that reads what has been logged since.

    Tests begin themselves: pytest adds handlers of its own just before a test, and they cannot format our records.
    """

    def begin() -> Callable[[], list[dict[str, Any]]]:
        configured()
        return lambda: [json.loads(line) for line in capsys.readouterr().err.split("\n") if line]

    return begin


def log() -> Any:
    return structlog.get_logger(f"test-{new_wamid()}")  # loggers are cached; another name is another logger


def test_a_fact_is_one_line_of_json(begin):
    lines = begin()
    log().info("webhook_accepted", account="meta-main", items=3, text="two\nlines \x1b[31m and \u2028 more")

    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert line == {
        "event": "webhook_accepted",
        "level": "info",
        "account": "meta-main",
        "items": 3,
        "text": "two\nlines \x1b[31m and \u2028 more",
    }


def test_ids_bound_to_a_request_are_on_every_line(begin):
    lines = begin()
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        log().info("one")
        logging.getLogger("some.library").warning("two")
    log().info("three")

    assert [line.get("request_id") for line in lines()] == ["r-1", "r-1", None]


def test_libraries_log_the_same_way(begin):
    lines = begin()
    logging.getLogger("some.library").warning("error connecting to %s", "postgresql://user:canary@db/x")

    (line,) = lines()
    assert (line["event"], line["level"]) == ("error connecting to postgresql://user:***@db/x", "warning")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_is_kept(configured, capsys, level):
    configured("json", level)

    for name in ("debug", "info", "warning", "error"):
        getattr(log(), name)(name)
        getattr(logging.getLogger("library"), name)(name)

    shown = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    order = ["debug", "info", "warning", "error"]
    assert shown == [name for name in order[order.index(level) :] for _ in range(2)]


def test_access_lines_are_not_written(begin):
    lines = begin()
    logging.getLogger("uvicorn.access").info("GET /v1/messages?recipient=%s", PHONE)

    assert lines() == []


def test_console_lines_are_for_people(configured, capsys):
    configured("console")

    log().warning("webhook_refused", account="meta-main", phone=PHONE)

    written = capsys.readouterr().err
    assert "webhook_refused" in written
    assert "meta-main" in written
    assert PHONE not in written


# Redaction

DROPPED = [
    "authorization", "body", "evidence", "headers", "item", "key", "password", "payload", "phone", "recipient",
    "secret", "signature", "token", "url", "x-octopods-auth", "Authorization", "TOKEN",
]  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_fields_that_may_carry_secrets_are_dropped(begin, name):
    lines = begin()
    log().info("fact", **{name: "canary", "details": {name: "canary", "kept": 1}, "many": [{name: "canary"}]})

    (line,) = lines()
    assert "canary" not in json.dumps(line)
    assert (line["details"], line["many"]) == ({"kept": 1}, [{}])


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (PHONE, "***"),
        (f"+{PHONE}", "***"),
        (f"to +{PHONE}, ({PHONE}) and {PHONE}.", "to ***, (***) and ***."),
        (f"whatsapp:+{PHONE} whatsapp:{PHONE}", "whatsapp:*** whatsapp:***"),
        (f"/v1/messages?recipient=%2B{PHONE}&limit=1", "/v1/messages?recipient=***&limit=1"),
        ("took 0.1234567890123 s", "took 0.1234567890123 s"),
        ("wamid.HBgLMTIwMjU1NTAxMTQVAgARGBIwQQA=", "wamid.***"),
        ("no wamid.HBgL+/_-x= there", "no wamid.*** there"),
        ("slk_AbC-dEf_123", "slk_***"),
        ("Bearer slk_AbC-dEf_123, again", "Bearer slk_***, again"),
        ("postgresql://user:canary@host/db", "postgresql://user:***@host/db"),
        ("postgres://user:can:ary@host/db", "postgres://user:***@host/db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z"),
        ("position 1234567", "position 1234567"),
        ("131026", "131026"),
        ("0123abcd-15558675309-ffff", "0123abcd-15558675309-ffff"),
    ],
)
def test_what_looks_personal_or_secret_is_masked_wherever_it_is(text, masked):
    told = logs.redact(None, "", {"event": text, "text": text, "deep": {"in": [text, (text,)]}, "level": "info"})

    assert told == {"event": masked, "text": masked, "deep": {"in": [masked, [masked]]}, "level": "info"}


def test_a_real_wamid_is_masked():
    wamid = new_wamid(PHONE)

    assert logs.redact(None, "", {"event": f"about {wamid} there"}) == {"event": "about wamid.*** there"}


def test_values_that_are_no_text_stay(begin):
    lines = begin()
    log().info("fact", number=15558675309, nothing=None, yes=True, fraction=0.5)

    (line,) = lines()
    assert (line["nothing"], line["yes"], line["fraction"]) == (None, True, 0.5)


# Exceptions


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """Return an exception that was raised, and so has a place; and its cause was, too."""
    try:
        raise error from (raised(cause) if cause else None)
    except type(error) as caught:
        return caught


def traced(error: BaseException) -> str:
    return logs.trace((type(error), error, error.__traceback__))


def test_of_another_packages_exception_only_type_and_place_are_told():
    told = traced(raised(ValueError(f"invalid literal: '{PHONE}'")))

    assert told.endswith("builtins.ValueError")
    assert PHONE not in told
    assert "in raised" in told


def test_a_database_error_is_told_by_its_state():
    told = traced(raised(psycopg.errors.UniqueViolation(f"Key (id)=({PHONE}) already exists.")))

    assert told.endswith("psycopg.errors.UniqueViolation (SQLSTATE 23505)")
    assert PHONE not in told


def test_our_own_exceptions_say_what_they_say():
    told = traced(raised(StoreUnavailable("the database did not answer"), psycopg.OperationalError(f"canary {PHONE}")))

    assert told.endswith("ledger.store.application.StoreUnavailable: the database did not answer")
    assert told.index("psycopg.OperationalError") < told.index("StoreUnavailable")
    assert "canary" not in told


def test_a_circle_of_causes_ends():
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first

    assert traced(first).count("ValueError") == 1


def test_an_exception_is_part_of_its_line(begin):
    lines = begin()
    try:
        raise ValueError(PHONE)
    except ValueError:
        log().exception("request_failed", route="/v1/messages")
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")

    for line in lines():
        assert line["exception"].endswith("builtins.ValueError")
        assert PHONE not in json.dumps(line)

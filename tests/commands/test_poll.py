"""`poll`: asking about one message by hand, and looking at what would be asked."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg import sql

from ledger import main
from ledger.domain.observation import Source
from ledger.ingest.writer import Job
from ledger.main import Parts
from projections.feed import Feed
from projections.poll_schedule import PollSchedule
from tests.commands.conftest import Run
from tests.plugins.ledger import Pen
from tests.plugins.service import ACCOUNTS, toml
from tests.polling.provider import ACCOUNT, TOKEN, Provider, Twilio
from tests.providers.requests import a_webhook
from tests.providers.senders import encode_form

sids = map("SM{:06}".format, range(1, 1_000_000))
TABLES = b"SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
REQUEST = "GET {}/2010-04-01/Accounts/" + ACCOUNT + "/Messages/{}.json"


@pytest.fixture
def provider(environ: dict[str, str]) -> Iterator[Provider]:
    """Twilio's server, and an account that is asked there."""
    server = Twilio()
    poll = {"account": ACCOUNT, "secret": TOKEN, "base_url": server.url, "rate": 50}
    accounts = {**ACCOUNTS, "twilio-main": {**ACCOUNTS["twilio-main"], "poll": poll}}
    Path(environ["LEDGER_CONFIG"]).write_text(toml(accounts), "utf-8")
    yield server
    server.close()


@pytest.fixture
def parts(provider: Provider, environ: dict[str, str]) -> Iterator[Parts]:
    built = main.build(main.read(environ), environ["LEDGER_DATABASE_URL"], pool_size=2)
    yield built
    built.close()


def hear(parts: Parts, sid: str, word: str) -> int:
    """Record a callback and return the message's id."""
    intake = main.intakes(parts)["twilio-main"]
    form = {"MessageSid": sid, "MessageStatus": word, "AccountSid": ACCOUNT, "To": "+12025550111"}
    parsed = intake.provider.parse(
        a_webhook(encode_form(form), {"Content-Type": "application/x-www-form-urlencoded"}), intake.account
    )
    receipt = intake.receipt(Source.CALLBACK, datetime.now(UTC), b"")
    pen = Pen(parts.ledger)
    pen.do(Job([intake.statement(each, receipt) for each in parsed.observations]))
    pen.writer.close()
    opened = parts.messages.of_stream(parts.names.stream_id("twilio-main", sid))
    assert opened is not None
    return opened.message_id


@pytest.fixture
def message(parts: Parts, provider: Provider) -> tuple[str, int]:
    """A message whose delivery nobody has called back, and its id."""
    sid = next(sids)
    provider.truth[sid] = {"status": "delivered"}
    return sid, hear(parts, sid, "sent")


def test_what_would_be_asked_is_shown_and_not_asked(run: Run, provider: Provider, message: tuple[str, int]) -> None:
    sid, message_id = message

    planned = run("poll", message_id, "--dry-run", "--json").json

    assert (planned["status"], planned["reason"], planned["asked"]) == ("SENT", "no_outcome", 0)
    assert planned["request"] == REQUEST.format(provider.url, sid)
    soon = datetime.fromisoformat(planned["next_at"]) - datetime.now(UTC)
    assert timedelta(0) < soon < timedelta(seconds=31)
    assert provider.asked == []


def test_a_message_is_asked_about_and_its_answer_recorded_once(
    run: Run, provider: Provider, message: tuple[str, int]
) -> None:
    sid, message_id = message

    asked = run("poll", message_id, "--json")
    again = run("poll", message_id)

    assert (asked.code, asked.json["came"], asked.json["status"]) == (0, "answered", "DELIVERED")
    assert asked.json["recorded"] == 1
    assert again.code == 0
    assert "answered; 0 events recorded" in again.out
    assert provider.asked == [sid, sid]
    assert TOKEN not in asked.out + asked.err + again.out + again.err


def test_every_account_is_shown_with_what_is_due(
    run: Run, parts: Parts, provider: Provider, message: tuple[str, int]
) -> None:
    sid, message_id = message
    feed = Feed(parts.ledger, [PollSchedule()])
    feed.drain()
    feed.close()
    with parts.ledger.reading() as cursor:
        cursor.execute("UPDATE poll_asks SET next_at = clock_timestamp() - interval '1 minute'")

    shown = run("poll", "--dry-run", "--json").json
    printed = run("poll", "--dry-run")

    (account,) = shown["items"]
    assert (account["account"], account["breaker"]) == ("twilio-main", "closed")
    assert account["due"] >= 1
    assert message_id in [item["message_id"] for item in account["next"]]
    assert printed.code == 0
    assert f"message {message_id}  no_outcome" in printed.out
    assert provider.asked == []
    assert sid not in printed.out


def test_an_account_whose_provider_refuses_the_credentials_is_left_alone(
    run: Run, parts: Parts, provider: Provider, message: tuple[str, int]
) -> None:
    provider.faults = lambda _path: "401"

    refused = run("poll", message[1], "--json")
    left_alone = run("poll", message[1])

    assert (refused.code, refused.json["came"], refused.json["why"]) == (1, "refused", "status_401")
    assert left_alone.code == 1
    assert "is not to be asked for another" in left_alone.err
    assert len(provider.questions) == 1
    assert run("poll", "--dry-run", "--json").json["items"][0]["breaker"] == "open"
    with parts.ledger.reading() as cursor:
        cursor.execute("DELETE FROM poll_accounts")


def test_a_question_without_a_proper_answer_is_a_failure(
    run: Run, provider: Provider, message: tuple[str, int]
) -> None:
    provider.faults = lambda _path: "500"

    ended = run("poll", message[1])

    assert ended.code == 1
    assert "failed (status_500); 0 events recorded" in ended.out


def test_what_cannot_be_asked_is_said(run: Run, provider: Provider) -> None:
    assert run("poll").code == 2
    assert run("poll", 999_999_999).code == 2


def test_a_dry_run_writes_nothing(run: Run, parts: Parts, provider: Provider, message: tuple[str, int]) -> None:
    """No row of any table: the schedule is not brought up to date for it either."""

    def written() -> dict[str, list[tuple[str]]]:
        with parts.ledger.reading() as cursor:
            tables = [name for (name,) in cursor.execute(TABLES).fetchall()]
            rows = sql.SQL("SELECT t::text FROM {} t ORDER BY 1")
            return {name: cursor.execute(rows.format(sql.Identifier(name))).fetchall() for name in tables}

    before = written()

    assert run("poll", message[1], "--dry-run").code == 0
    assert run("poll", "--dry-run").code == 0
    assert run("poll", "--dry-run", "--json").json["events_behind"] >= 0

    assert written() == before
    assert provider.asked == []


def test_what_an_account_or_its_provider_is_not_set_up_for_is_said(
    run: Run, parts: Parts, provider: Provider, message: tuple[str, int], environ: dict[str, str]
) -> None:
    file = Path(environ["LEDGER_CONFIG"])
    others = {name: told for name, told in ACCOUNTS.items() if name != "twilio-main"}

    file.write_text(toml({**others, "twilio-main": ACCOUNTS["twilio-main"]}), "utf-8")
    no_table = run("poll", message[1])
    file.write_text(toml({**others, "twilio-main": ACCOUNTS["viber-main"]}), "utf-8")
    no_fetcher = run("poll", message[1])
    file.write_text(toml(others), "utf-8")
    removed = [run("poll", message[1]), run("poll", message[1], "--dry-run"), run("poll", "--dry-run")]

    assert (no_table.code, "has no table accounts.twilio-main.poll" in no_table.err) == (2, True)
    assert (no_fetcher.code, "its provider cannot be asked" in no_fetcher.err) == (2, True)
    assert [ended.code for ended in removed] == [2, 2, 0]
    assert all("is not configured any more" in ended.err for ended in removed[:2])
    assert provider.asked == []


@pytest.mark.parametrize("told", ["0", str(1 << 53), "9" * 30, "x", "1.5", ""])
def test_an_id_of_no_message_is_refused(run: Run, provider: Provider, told: str) -> None:
    assert run("poll", told).code == 2
    assert provider.asked == []

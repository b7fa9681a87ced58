"""`projections`, `rebuild`, `export` and `recapture`, run as users run them."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from ledger.commands import export, exported
from ledger.domain.status import Status
from ledger.main import Parts
from ledger.providers import PROVIDERS
from ledger.store.captures import Capture
from ledger.wire.contract import Claim
from tests.builders import at
from tests.commands.conftest import Run
from tests.plugins.ledger import Pen
from tests.projections.following import follow
from tests.statements import says, stream_of

ACCOUNT = "meta-main"


@pytest.fixture
def pen(parts: Parts, start_writer: Callable[..., Pen]) -> Pen:
    return start_writer(parts.ledger)


def fill(pen: Pen, name: str, messages: int = 12) -> None:
    for number in range(messages):
        told: dict[str, Any] = {"reference": f"{name}-{number}", "account": ACCOUNT, "provider": "meta"}
        pen.write(says(Status.SENT, 1, **told))
        if number % 3:
            last = (Status.DELIVERED, Status.FAILED)[number % 3 - 1]
            pen.write(says(last, 2, error_code="131026" if last is Status.FAILED else None, **told))


def test_progress_is_shown(run: Run, parts: Parts, pen: Pen) -> None:
    fill(pen, "progress")
    follow(parts.ledger)
    items = {item["projection"]: item for item in run("projections", "--json").json["items"]}
    assert (items["reports"]["state"], items["reports"]["lag_events"]) == ("live", 0)
    shown = run("projections")
    assert shown.code == 0
    assert "reports" in shown.out


def test_a_rebuild_without_a_difference(run: Run, parts: Parts, pen: Pen) -> None:
    fill(pen, "same")
    dry = run("rebuild", "all", "--dry-run", "--json")
    assert dry.code == 0, dry
    assert set(dry.json) == {"reports", "poll_schedule", "conversations", "status_changes", "current_status"}
    for name, told in dry.json.items():
        assert told["equal"] > 0 or name in ("poll_schedule", "conversations")  # nothing of them is here
        assert (told["changed"], told["only_old"], told["only_new"], told["examples"]) == (0, 0, 0, [])
    assert run("rebuild", "reports", "--processes", "2").code == 0
    assert run("rebuild", "reports", "--join").code == 0


def test_a_dry_run_tells_what_a_rebuild_then_corrects(run: Run, parts: Parts, pen: Pen) -> None:
    fill(pen, "spoiled")
    follow(parts.ledger)
    with parts.ledger.connect() as connection:
        connection.execute("UPDATE current_status SET failure_category = 'spoiled' WHERE failure_category IS NOT NULL")
    dry = run("rebuild", "current_status", "--dry-run", "--json")
    assert dry.code == 3
    told = dry.json["current_status"]
    assert told["changed"] >= 4
    example = told["examples"][0]
    assert (example["old"], example["new"]) == ({"failure_category": "spoiled"}, {"failure_category": "recipient"})
    assert [place["type"] for place in example["events"]] == ["StatusObserved", "StatusObserved"]
    shown = run("rebuild", "current_status", "--dry-run")
    assert "Nothing was changed." in shown.out
    assert run("rebuild", "current_status").code == 0
    assert run("rebuild", "all", "--dry-run").code == 0


@pytest.mark.parametrize("arguments", [("nothing",), ("reports", "--processes", "0"), ("reports", "--processes", "x")])
def test_bad_usage_of_rebuild(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("rebuild", *arguments).code == 2


# Export ---------------------------------------------------------------------------------------------------------------


def test_messages_in_every_form(run: Run, parts: Parts, pen: Pen, tmp_path: Path) -> None:
    fill(pen, "exported")
    rows = list(csv.DictReader(io.StringIO(run("export", "messages").out)))
    assert list(rows[0]) == list(exported.Messages.types)
    assert {row["status"] for row in rows} == {"SENT", "DELIVERED", "FAILED"}
    lines = [json.loads(line) for line in run("export", "messages", "--format", "jsonl").out.splitlines()]
    assert [line["message_id"] for line in lines] == [int(row["message_id"]) for row in rows]
    assert run("export", "messages", "--format", "parquet", "-o", tmp_path / "messages").code == 0
    table = pyarrow.parquet.read_table(tmp_path / "messages")
    assert table.column("message_id").to_pylist() == [line["message_id"] for line in lines]
    assert str(table.schema.field("opened_at").type) == "timestamp[us, tz=UTC]"


def test_events_are_in_order_and_whole(run: Run, parts: Parts, pen: Pen) -> None:
    fill(pen, "logged")
    lines = [json.loads(line) for line in run("export", "events", "--format", "jsonl").out.splitlines()]
    assert [line["position"] for line in lines] == list(range(1, len(lines) + 1))
    assert all(len(line["hash"]) == 64 and line["evidence"] for line in lines)
    assert run("export", "events", "--account", "nobody").out.splitlines() == [",".join(exported.Events.types)]


def test_an_interrupted_export_goes_on_to_the_same_bytes(
    run: Run, parts: Parts, pen: Pen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(pen, "interrupted")
    monkeypatch.setattr(exported, "PAGE", 5)
    whole, halved = tmp_path / "whole.csv", tmp_path / "halved.csv"
    assert run("export", "events", "-o", whole).code == 0
    write, written = export.TextSink.write, []

    def dies(sink: export.TextSink, records: Any) -> None:
        if len(written) == 3:
            sink._file.write(b"half a li")
            raise KeyboardInterrupt
        written.append(records)
        write(sink, records)

    monkeypatch.setattr(export.TextSink, "write", dies)
    assert run("export", "events", "-o", halved).code == 1
    monkeypatch.setattr(export.TextSink, "write", write)
    assert run("export", "messages", "-o", halved, "--resume").code == 2
    assert run("export", "events", "-o", halved, "--resume").code == 0
    assert halved.read_bytes() == whole.read_bytes()
    assert run("export", "events", "-o", halved, "--resume").code == 1


def test_parquet_of_many_rows_is_made_of_files_and_resumed(
    run: Run, parts: Parts, pen: Pen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(pen, "many", 30)
    monkeypatch.setattr(exported, "PAGE", 5)
    monkeypatch.setattr(export, "GROUP_ROWS", 5)
    monkeypatch.setattr(export, "FILE_ROWS", 10)
    total = len(run("export", "events", "--format", "jsonl").out.splitlines())
    write, written = export.ParquetSink.write, []

    def dies(sink: export.ParquetSink, records: Any) -> None:
        if len(written) == 5:
            raise KeyboardInterrupt
        written.append(records)
        write(sink, records)

    monkeypatch.setattr(export.ParquetSink, "write", dies)
    assert run("export", "events", "--format", "parquet", "-o", tmp_path / "events").code == 1
    monkeypatch.setattr(export.ParquetSink, "write", write)
    assert run("export", "events", "--format", "parquet", "-o", tmp_path / "events", "--resume").code == 0
    positions = pyarrow.parquet.read_table(tmp_path / "events").column("position").to_pylist()
    assert positions == list(range(1, total + 1))
    assert len(list((tmp_path / "events").iterdir())) > 3


def test_a_report_is_exported(run: Run, parts: Parts, pen: Pen) -> None:
    fill(pen, "reported")
    follow(parts.ledger)
    rows = list(csv.DictReader(io.StringIO(run("export", "failures", "--since", "2025-01-01T00:00:00Z").out)))
    assert {row["code"] for row in rows} == {"131026"}
    for what in ("delivery", "latency", "stuck", "providers"):
        assert run("export", what, "--format", "jsonl", "--since", "2025-01-01T00:00:00Z").code == 0
    assert run("export", "delivery", "--group-by", "colour").code == 2


def test_a_text_that_a_spreadsheet_would_run_is_made_harmless(run: Run, parts: Parts, pen: Pen) -> None:
    pen.write(says(Status.SENT, 1, reference="=cmd()", account=ACCOUNT, provider="meta"))
    assert "'=cmd()" in run("export", "messages").out


# Recapture ------------------------------------------------------------------------------------------------------------


def a_capture(content: bytes) -> Capture:
    return Capture(
        account=ACCOUNT,
        provider="meta",
        reason="statuses[].timestamp is not what it was",
        content=content,
        content_type="application/json",
        received_at=at(7),
    )


def test_kept_items_and_requests_are_read_again_once(run: Run, parts: Parts, pen: Pen) -> None:
    item = b'{"id":"wamid.ITEM","status":"delivered","timestamp":"1740830400","recipient_id":"15550100"}'
    whole = (
        b'{"entry":[{"changes":[{"field":"messages","value":{"statuses":['
        + item.replace(b"ITEM", b"WHOLE")
        + b"]}}]}]}"
    )
    pen.write(captures=[a_capture(item), a_capture(whole), a_capture(b"neither")])
    dry = run("recapture", "--dry-run", "--json").json
    assert (dry["captures"], dry["captures_read"], dry["appended"]) == (3, 2, 2)
    done = run("recapture", "--json").json
    assert (done["captures_read"], done["appended"], done["on_record"]) == (2, 2, 0)
    again = run("recapture", "--json").json
    assert (again["captures"], again["captures_read"], again["appended"]) == (1, 0, 0)
    for name in ("wamid.ITEM", "wamid.WHOLE"):
        (recorded,) = parts.ledger.history(parts.names.stream_id(ACCOUNT, name))
        assert (recorded.event.source, recorded.event.status_after) == ("reread", Status.DELIVERED)  # type: ignore[union-attr]
        assert recorded.event.received_at == at(7)
    assert "1 kept requests" in run("recapture").out


def test_words_that_have_been_learned_are_recorded_once(
    run: Run, parts: Parts, pen: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = b'{"id":"wamid.WORD","status":"handed_over","timestamp":"1740830400","recipient_id":"15550100"}'
    told: dict[str, Any] = {"reference": "wamid.WORD", "account": ACCOUNT, "provider": "meta"}
    statement = says(Status.UNKNOWN, 3, provider_status="handed_over", item=item, **told)
    from msgspec.structs import replace  # noqa: PLC0415

    pen.write(replace(statement, command=replace(statement.command, recognised=False)))
    before = run("recapture", "--json").json
    assert (before["observations"], before["observations_understood"]) == (1, 0)
    claims = {**PROVIDERS["meta"].claims, "handed_over": Claim(Status.DELIVERED)}
    monkeypatch.setitem(PROVIDERS, "meta", replace(PROVIDERS["meta"], claims=claims))  # type: ignore[arg-type]
    done = run("recapture", "--json").json
    assert (done["observations_understood"], done["appended"]) == (1, 1)
    assert run("recapture", "--json").json["appended"] == 0
    recorded = parts.ledger.history(stream_of("wamid.WORD", ACCOUNT))
    assert [event.event.status_after for event in recorded] == [Status.UNKNOWN, Status.DELIVERED]  # type: ignore[union-attr]

"""`docs/operations.md` names every metric and the events of the log that exist."""

import re

from prometheus_client import Counter, Gauge, Histogram

from ledger.http import metrics
from tests.docs.documents import ROOT, code, table, text_of

TEXT = text_of("docs/operations.md")
SOURCE = "".join(
    path.read_text("utf-8") for package in ("ledger", "projections") for path in (ROOT / package).rglob("*.py")
)


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    known = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            name = metric._name + ("_total" if isinstance(metric, Counter) else "")
            known[name] = list(metric._labelnames)

    documented = {code(row[0])[0]: code(row[1]) for row in table(TEXT, "Metrics")}

    assert known == documented


def test_alerts_speak_of_metrics_that_exist() -> None:
    known = {code(row[0])[0] for row in table(TEXT, "Metrics")}

    spoken_of = set(re.findall(r"ledger_[a-z_]+", TEXT))

    assert spoken_of <= known


def test_documented_log_events_exist() -> None:

    missing = [code(row[0])[0] for row in table(TEXT, "Logs") if f'"{code(row[0])[0]}"' not in SOURCE]

    assert missing == []


def test_every_fault_and_warning_that_is_logged_is_documented() -> None:
    logged = set(re.findall(r"_?log\.(?:warning|error|exception)\(\s*\"([a-z_]+)\"", SOURCE))

    assert logged <= {code(row[0])[0] for row in table(TEXT, "Logs")}

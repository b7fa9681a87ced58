"""What the edge counts. Labels are closed sets: accounts, providers and our own words, never a caller's text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

WEBHOOKS = Counter("ledger_webhooks", "Requests to /webhooks by answer", ["account", "answer"])
OBSERVATIONS = Counter("ledger_observations", "Recorded observations by verdict", ["provider", "verdict"])
REDELIVERED = Counter("ledger_redelivered", "Observations that were on record already", ["provider"])
UNRECOGNISED = Counter("ledger_unrecognised", "Recorded observations whose word no table knows", ["provider"])
CAPTURED = Counter("ledger_captured", "Requests or items kept because they could not be read", ["provider"])
ALERTS = Counter("ledger_account_alerts", "Errors about an account itself, not a message", ["account"])
REQUESTS = Counter("ledger_api_requests", "API requests by route and answer", ["route", "answer"])
SECONDS = Histogram(
    "ledger_webhook_seconds",
    "From the last byte of a callback to its answer",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
WAITING = Gauge("ledger_queue_statements", "Statements waiting to be written", multiprocess_mode="livesum")


def render(multiprocess: bool) -> bytes:
    """Return all metrics as Prometheus text; of all processes when they share a directory."""
    if not multiprocess:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)

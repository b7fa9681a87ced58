"""What the edge counts. Labels are closed sets: accounts, providers and our own words, never a caller's text."""

from collections.abc import Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from projections.feed import Progress

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
POLLS = Counter("ledger_polls", "Questions to providers by what came of them", ["account", "came"])
POLL_BREAKER = Gauge(
    "ledger_poll_breaker_open", "1 while an account's provider is not asked", ["account"], multiprocess_mode="max"
)
OUTBOUND = Counter("ledger_outbound_attempts", "Attempts to tell a destination of a change", ["kind", "outcome"])
WAITING = Gauge("ledger_queue_statements", "Statements waiting to be written", multiprocess_mode="livesum")
STREAMS = Gauge("ledger_streams", "Open event streams", multiprocess_mode="livesum")
STREAMED = Counter("ledger_stream_events", "Events sent to streams", ["stream"])
STREAMS_ENDED = Counter("ledger_streams_ended", "Event streams that ended, by reason", ["reason"])

_PLACE = ["projection", "generation", "partition"]
POSITION = Gauge("ledger_projection_position", "Last position applied", _PLACE, multiprocess_mode="mostrecent")
LAG_EVENTS = Gauge(
    "ledger_projection_lag_events", "Events recorded and not applied", _PLACE, multiprocess_mode="mostrecent"
)
LAG_SECONDS = Gauge(
    "ledger_projection_lag_seconds", "Age of the oldest such event", _PLACE, multiprocess_mode="mostrecent"
)
RATE = Gauge("ledger_projection_rate", "Events applied a second, lately", _PLACE, multiprocess_mode="mostrecent")
PARKED = Gauge("ledger_projection_parked", "Events that cannot be applied", _PLACE, multiprocess_mode="mostrecent")


_webhooks = cache(WEBHOOKS.labels)
_observations = cache(OBSERVATIONS.labels)
_requests = cache(REQUESTS.labels)
_streamed = cache(STREAMED.labels)


def count_webhook(account: str, answer: int | str) -> None:
    _webhooks(account, answer).inc()


def count_request(route: str, answer: int) -> None:
    _requests(route, answer).inc()


def count_observation(provider: str, verdict: str) -> None:
    _observations(provider, verdict).inc()


def count_streamed(stream: str, count: int = 1) -> None:
    _streamed(stream).inc(count)


def count_attempt(kind: str, outcome: str) -> None:
    OUTBOUND.labels(kind, outcome).inc()


def note_progress(followed: Iterable[Progress]) -> None:
    """Note how far projections have come, as the database says."""
    for progress in followed:
        place = (progress.projection, progress.generation, progress.partition)
        POSITION.labels(*place).set(progress.position)
        LAG_EVENTS.labels(*place).set(progress.lag_events)
        LAG_SECONDS.labels(*place).set(progress.lag_seconds)
        RATE.labels(*place).set(progress.rate)
        PARKED.labels(*place).set(progress.parked)


def count_poll(account: str, came: str) -> None:
    POLLS.labels(account, came).inc()


def show_breaker(account: str, is_open: bool) -> None:
    POLL_BREAKER.labels(account).set(is_open)


def render(multiprocess: bool) -> bytes:
    """Return all metrics as Prometheus text; of all processes when they share a directory."""
    if not multiprocess:
        return generate_latest()
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)

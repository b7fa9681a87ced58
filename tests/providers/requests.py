"""Requests, accounts and outcomes, as every test of adapters makes them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ledger.providers import PROVIDERS
from ledger.wire.contract import Account, Headers, Malformed, Parsed, Provider, Secret, Webhook

BASE_URL = "https://ledger.example.com/hooks/status"
#: Our clock in tests of adapters. Whoever signs with a time signs at this one.
NOW = datetime(2026, 10, 15, 12, 30, tzinfo=UTC)
#: Topics without which the provider's requests prove nothing.
TOPIC = "arn:aws:sns:eu-west-1:123456789012:sms-events"
#: Options that an account cannot do without, by provider.
REQUIRED_OPTIONS: dict[str, dict[str, Any]] = {"aws": {"topics": [TOPIC]}}

Item = dict[str, Any]


class Told(Headers):
    """Headers that can be listed, as a sender lists them."""

    def __init__(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        super().__init__(list(pairs))
        self.pairs = tuple(pairs)


def an_account(provider: str, *secrets: str | bytes, options: dict[str, Any] | None = None, **settings: Any) -> Account:
    channel = sorted(PROVIDERS[provider].channels)[0]
    kind = PROVIDERS[provider].options
    chosen = {
        "name": f"{provider}-main",
        "channel": channel,
        "public_url": BASE_URL,
        "options": msgspec.convert(options or REQUIRED_OPTIONS.get(provider, {}), kind) if kind else None,
        **settings,
    }
    return Account(provider=provider, secrets=tuple(Secret(secret) for secret in secrets), **chosen)


def a_webhook(
    body: bytes = b"",
    headers: dict[str, str] | Sequence[tuple[str, bytes]] = (),
    url: str = BASE_URL,
    method: str = "POST",
    received_at: datetime = NOW,
) -> Webhook:
    pairs = (
        [(name, value.encode("latin-1")) for name, value in headers.items()] if isinstance(headers, dict) else headers
    )
    raw = [(name.lower().encode(), value) for name, value in pairs]
    query = url.partition("#")[0].partition("?")[2]
    return Webhook(
        method=method,
        url=url,
        query=query.encode("latin-1"),
        headers=Told(raw),
        body=body,
        received_at=received_at,
    )


def header_pairs(webhook: Webhook) -> tuple[tuple[bytes, bytes], ...]:
    """List the headers of a request made here."""
    assert isinstance(webhook.headers, Told)
    return webhook.headers.pairs


def outcome(provider: Provider, webhook: Webhook, account: Account | None = None) -> Parsed | Malformed:
    """Parse, with `Malformed` as a value; any other exception is the failure that a test looks for."""
    try:
        return provider.parse(webhook, account or an_account(provider.name, "any"))
    except Malformed as problem:
        return problem

"""The registry: every provider that accounts can name, and nothing else that knows a provider."""

from collections.abc import Mapping
from typing import Final

from ledger.providers import meta, twilio, viber
from ledger.wire.contract import Provider

PROVIDERS: Final[Mapping[str, Provider]] = {
    provider.name: provider for provider in (meta.PROVIDER, twilio.PROVIDER, viber.PROVIDER)
}

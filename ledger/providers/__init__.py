"""The registry: every provider that accounts can name, and nothing else that knows a provider."""

from collections.abc import Mapping
from typing import Final

from ledger.providers import (
    aws,
    dialog360,
    gupshup,
    infobip,
    messagebird,
    meta,
    plivo,
    routemobile,
    sinch,
    standardwebhooks,
    telnyx,
    twilio,
    viber,
    vonage,
)
from ledger.wire.contract import Provider

PROVIDERS: Final[Mapping[str, Provider]] = {
    provider.name: provider
    for provider in (
        meta.PROVIDER,
        twilio.PROVIDER,
        viber.PROVIDER,
        vonage.PROVIDER,
        infobip.PROVIDER,
        sinch.PROVIDER,
        telnyx.PROVIDER,
        messagebird.PROVIDER,
        plivo.PROVIDER,
        aws.PROVIDER,
        dialog360.PROVIDER,
        gupshup.PROVIDER,
        routemobile.PROVIDER,
        standardwebhooks.PROVIDER,
    )
}

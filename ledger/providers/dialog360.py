"""360dialog: WhatsApp status webhooks, forwarded in the shape of the Cloud API. Read on 2026-11-21:

https://docs.360dialog.com/docs/hub/webhook-url
https://docs.360dialog.com/docs/resources/webhook-events-and-notifications

What identifies a message, what identifies a report across resends, whose clock: as `ledger.wire.cloudapi` has it, since
nothing is added and nothing taken away. Order and duplicates: neither is promised; anything but HTTP 200 is repeated
with growing delays for a day or longer.

The signature of the Cloud API does not come along, and nothing replaces it. A header of our own, entered together with
the address, tells who calls.
"""

from typing import Final

from ledger.domain.status import Channel
from ledger.wire import cloudapi, credentials
from ledger.wire.contract import Account, Parsed, Provider, Webhook
from ledger.wire.credentials import Auth, Credentials

CLAIMS: Final = cloudapi.CLAIMS


class Options(Credentials, frozen=True, kw_only=True, forbid_unknown_fields=True):
    auth: Auth = "header"


def parse(webhook: Webhook, account: Account) -> Parsed:
    """Read every status of every change of every entry. Raises Malformed for a body without entries."""
    return cloudapi.parse(webhook.body)


_authenticate, _signed_text = credentials.scheme(Options)

PROVIDER: Final = Provider(
    name="dialog360",
    channels=frozenset({Channel.WHATSAPP}),
    content_types=frozenset({"application/json"}),
    claims=CLAIMS,
    authenticate=_authenticate,
    parse=parse,
    whole=cloudapi.whole,
    options=Options,
    check_secret=credentials.check_secret,
    signed_text=_signed_text,
)

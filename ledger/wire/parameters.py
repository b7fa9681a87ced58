"""Parameters that are signed together: sorted by name, joined, with the signature among them.

They come in a query, a form or a JSON object and are the same in all three, except that a number in JSON is signed as
it is written. Total over any bytes: what is too large or no parameters at all has nothing to sign.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Raw

from ledger.wire import decoding, forms
from ledger.wire.contract import Malformed, Webhook
from ledger.wire.decoding import loose

#: What stands in for a sign that separates parameters, within a value.
SUBSTITUTE: Final = b"_"
SEPARATORS: Final = (b"&", b"=")

_members: Final = decoding.json_reader(dict[str, Raw], "body")


class Signed(NamedTuple):
    """What a request's signature is computed over, and what it carries."""

    text: bytes = b""  #: empty where nothing can have been signed
    signatures: tuple[bytes, ...] = ()
    told_at: str = ""  #: the request's own time, as it is written


def texts(webhook: Webhook) -> dict[str, str]:
    """Return names and values, less the blank ones. Raises Malformed beyond any form's limits."""
    if not decoding.is_object(webhook):
        return forms.texts(forms.fields(webhook.content))
    values = {name: loose(raw) for name, raw in _members(webhook.body).items()}
    found = {name: value if isinstance(value, str) else decoding.identifier(value) for name, value in values.items()}
    return {name: text for name, text in found.items() if text and not text.isspace()}


def signed(webhook: Webhook, *, signature: bytes, time: bytes) -> Signed:
    """Take a request apart. The text is empty where a name holds a separator: two requests could then have the same."""
    try:
        pairs = _pairs(webhook)
    except Malformed:
        return Signed()
    given = tuple(value for name, value in pairs if name == signature)
    rest = sorted((name, value) for name, value in pairs if name != signature)
    if any(separator in name for name, _ in rest for separator in SEPARATORS):
        return Signed(signatures=given)
    told_at = next((value.decode("latin-1") for name, value in rest if name == time), "")
    return Signed(b"".join(b"&%s=%s" % (name, _without_separators(value)) for name, value in rest), given, told_at)


def _pairs(webhook: Webhook) -> Sequence[tuple[bytes, bytes]]:
    if not decoding.is_object(webhook):
        return [(forms.to_bytes(name), forms.to_bytes(value)) for name, value in forms.fields(webhook.content)]
    members = _members(webhook.body) if len(webhook.body) <= forms.BYTES_MAX else {}
    if not 0 < len(members) <= forms.FIELDS_MAX:
        raise Malformed("body: no parameters, or too many")
    told = ((name.encode("utf-8", "replace"), raw, loose(raw)) for name, raw in members.items())
    return [
        (name, value.encode("utf-8", "replace") if isinstance(value, str) else bytes(raw)) for name, raw, value in told
    ]


def _without_separators(value: bytes) -> bytes:
    for separator in SEPARATORS:
        value = value.replace(separator, SUBSTITUTE)
    return value

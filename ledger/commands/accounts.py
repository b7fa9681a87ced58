"""`accounts list | check`: what is configured, whether it can work, and why a request was refused.

Nothing printed here holds a secret, not even one that came in a request's own address or headers.
"""

import argparse
import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, quote_plus, urlsplit

import msgspec

from ledger import main
from ledger.commands.common import DONE, FOUND, USAGE, CommandFailed, print_json, print_table
from ledger.http.webhooks import PATH
from ledger.providers import PROVIDERS
from ledger.store.safety import Finding
from ledger.wire import instants
from ledger.wire.contract import Account, Headers, Provider, Webhook
from ledger.wire.credentials import NAMES, Credentials

_STARS: Final = "***"
_LOCAL_HOSTS: Final = re.compile(r"localhost|127\.[0-9.]+|::1|0\.0\.0\.0")
#: What may be the time of a signature: ten digits of a second, alone or in a token.
_SECONDS: Final = re.compile(rb"(?<![0-9])[0-9]{10}(?![0-9])")
_TOKEN: Final = re.compile(rb"[0-9A-Za-z_-]+\.([0-9A-Za-z_-]+)\.[0-9A-Za-z_-]+")
#: Instants tried in search of the one at which a signature is fresh.
_INSTANTS_MAX: Final = 100


class Recorded(msgspec.Struct, kw_only=True):
    """A request as somebody recorded it. Other members are ignored."""

    url: str
    method: str = "POST"
    headers: dict[str, str] = {}
    body: str = ""
    body_base64: str | None = None  #: instead of `body`, where that is no text
    received_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None  #: absent: now


def add_to(commands: Any) -> None:
    accounts = commands.add_parser("accounts", help="list accounts, check one, explain a refused request")
    actions = accounts.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list accounts with their callback addresses")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=_list)
    check = actions.add_parser("check", help="look for what is wrong with an account; exits 3 if something is")
    check.add_argument("name")
    check.add_argument("--explain", metavar="REQUEST_FILE", type=Path, help="tell why this recorded request is refused")
    check.add_argument("--json", action="store_true")
    check.set_defaults(run=_check)


def _list(told: argparse.Namespace) -> int:
    accounts = main.read().accounts.values()
    if told.json:
        print_json({"items": [_described(account) for account in accounts]})
    else:
        rows = [(each.name, each.provider, each.channel, len(each.secrets), each.public_url) for each in accounts]
        print_table(("ACCOUNT", "PROVIDER", "CHANNEL", "SECRETS", "CALLBACK ADDRESS"), rows)
    return DONE


def _check(told: argparse.Namespace) -> int:
    settings = main.read()
    account = settings.accounts.get(told.name)
    if account is None:
        raise CommandFailed(f"no account {told.name!r} in {settings.config}", USAGE)
    provider = PROVIDERS[account.provider]
    findings = list(_findings(account, provider))
    shown = _described(account)
    if told.explain is not None:
        explained = _explained(account, provider, _read(told.explain))
        findings.append(Finding("request", explained["authentic"], explained["why"]))
        shown["request"] = explained
    shown |= {"ok": all(finding.ok for finding in findings), "findings": findings}
    if told.json:
        print_json(shown)
    else:
        _print(shown, findings)
    return DONE if shown["ok"] else FOUND


def _print(shown: dict[str, Any], findings: list[Finding]) -> None:
    print(f"{shown['callback_url']}\n")
    rows = [("ok" if finding.ok else "!!", finding.name, finding.detail) for finding in findings]
    print_table(("", "CHECK", "FOUND"), rows)
    signed = shown.get("request", {}).get("signed_text")
    if signed is not None:
        print(f"\nwhat the signature is computed over:\n{_printable(signed)}")


def _printable(text: str) -> str:
    """Return a text that does nothing to a terminal: what controls one is written as an escape."""
    shown = (sign if sign.isprintable() or sign == "\n" else sign.encode("unicode_escape").decode() for sign in text)
    return "".join(shown)


# An account -----------------------------------------------------------------------------------------------------------


def _described(account: Account) -> dict[str, Any]:
    provider = PROVIDERS[account.provider]
    return {
        "account": account.name,
        "provider": account.provider,
        "channel": account.channel.value,
        "callback_url": _callback_url(account),
        "methods": sorted(provider.methods | ({"GET"} if provider.handshake else set())),
        "content_types": sorted(provider.content_types),
        "secrets": len(account.secrets),
        "options": msgspec.to_builtins(account.options) if account.options is not None else {},
    }


def _callback_url(account: Account) -> str:
    """Return what the provider has to be told, with stars where a secret belongs in the address."""
    url, told = _starred(account.public_url, account), account.options
    if isinstance(told, Credentials) and told.auth == "query":
        url += f"{'&' if '?' in url else '?'}{told.name or NAMES['query']}={_STARS}"
    return url


def _findings(account: Account, provider: Provider) -> Iterator[Finding]:
    """Yield what was looked at. The settings as such are good, or they could not have been read."""
    url = urlsplit(account.public_url)
    local = _LOCAL_HOSTS.fullmatch(url.hostname or "") is not None
    if local:
        yield Finding("address", True, "only this machine can call it: set public_url before a provider shall")
    else:
        encrypted = url.scheme == "https"
        advice = "as the provider calls it" if encrypted else "must be https: callbacks carry personal data"
        yield Finding("address", encrypted, advice)
    path = PATH + account.name
    arrives = "as it is" if url.path == path else f"as {path}: the proxy has to rewrite the path"
    yield Finding("forwarding", True, f"calls have to arrive {arrives}")
    yield _secrets(account, provider)
    if provider.handshake is not None:
        told = account.verify_token is not None
        yield Finding("handshake", True, "can be answered" if told else "is refused: there is no verify_token")


def _secrets(account: Account, provider: Provider) -> Finding:
    look = provider.check_secret
    problems = [
        f"number {number} {problem}"
        for number, secret in enumerate(account.secrets, start=1)
        if look is not None and (problem := look(secret.reveal(), account)) is not None
    ]
    known = f"{len(account.secrets)}, any of which may sign" if account.secrets else "none, and none is needed"
    return Finding("secrets", not problems, "; ".join(problems) or known)


# A request ------------------------------------------------------------------------------------------------------------


def _read(file: Path) -> Recorded:
    try:
        told = msgspec.json.decode(file.read_bytes(), type=Recorded)
        if told.body_base64 is not None:
            base64.b64decode(told.body_base64, validate=True)
        for text in (told.url, *told.headers, *told.headers.values()):
            text.encode("latin-1")
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read ({type(error).__name__})", USAGE) from None
    except (ValueError, RecursionError) as error:  # msgspec's texts name our fields and types, never values
        what = error if isinstance(error, msgspec.ValidationError) else "is not a request as JSON"
        raise CommandFailed(f"{file}: {what}", USAGE) from None
    return told


def _webhook(recorded: Recorded, account: Account) -> Webhook:
    """Return the request as it would be received: only the query of its recorded address counts."""
    query = recorded.url.partition("#")[0].partition("?")[2]
    url = account.public_url
    if query:
        url += ("&" if "?" in url else "?") + query
    encoded = recorded.body_base64
    return Webhook(
        method=recorded.method.upper(),
        url=url,
        query=query.encode("latin-1"),
        headers=Headers([(name.lower().encode("latin-1"), value) for name, value in _headers(recorded)]),
        body=recorded.body.encode("utf-8", "surrogatepass") if encoded is None else base64.b64decode(encoded),
        received_at=recorded.received_at or datetime.now(UTC),
    )


def _headers(recorded: Recorded) -> list[tuple[str, bytes]]:
    return [(name, value.encode("latin-1")) for name, value in recorded.headers.items()]


def _explained(account: Account, provider: Provider, recorded: Recorded) -> dict[str, Any]:
    """Tell whether a request is authentic, why if it is not, and what its signature is computed over."""
    webhook = _webhook(recorded, account)
    signed = provider.signed_text(webhook, account) if provider.signed_text is not None else None
    authentic = provider.authenticate(webhook, account)
    return {
        "authentic": authentic,
        "why": "is authentic" if authentic else _why(account, provider, recorded, signed),
        "received_at": webhook.received_at,
        "signed_text": None if signed is None else _starred(signed.decode("utf-8", "backslashreplace"), account),
        "signed_text_base64": None
        if signed is None or _reveals(signed, account)
        else base64.b64encode(signed).decode(),
    }


def _why(account: Account, provider: Provider, recorded: Recorded, signed: bytes | None) -> str:
    webhook = _webhook(recorded, account)
    for instant in _instants(recorded, webhook):
        if provider.authenticate(msgspec.structs.replace(webhook, received_at=instant), account):
            at = instant.isoformat().replace("+00:00", "Z")
            return f"would be authentic at {at}: its signature is too old, or from the future"
    if provider.asks_again is not None and provider.asks_again(webhook, account):
        return "cannot be judged as it is, and is answered 503 so that the provider sends it again"
    if signed is None:
        return "carries no signature; or, where this provider signs nothing, none of the account's secrets"
    reasons = ["no secret of the account has signed the text below"]
    if recorded.url.partition("#")[0].partition("?")[0] != account.public_url.partition("?")[0]:
        reasons.append("the recorded address is not the account's, and only that one counts")
    return "; ".join(reasons)


def _instants(recorded: Recorded, webhook: Webhook) -> Iterator[datetime]:
    """Yield instants that a signature may be of: whatever in the request looks like one, in headers first."""
    headers = b"\n".join(value for _, value in _headers(recorded))
    tokens = b"\n".join(map(_unpadded, _TOKEN.findall(headers)))
    found = _SECONDS.findall(b"\n".join((headers, tokens, webhook.content)))
    for digits in dict.fromkeys(found[:_INSTANTS_MAX]):
        instant = instants.unix_seconds(digits.decode())
        if instant is not None:
            yield instant


def _unpadded(part: bytes) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except ValueError:
        return b""


def _spellings(account: Account) -> Iterator[bytes]:
    """Yield the account's secrets as a request may hold them."""
    for secret in account.secrets:
        raw = secret.reveal()
        yield from {raw, quote(raw).encode(), quote_plus(raw).encode(), quote(raw, safe="").encode()} - {b""}


def _reveals(text: bytes, account: Account) -> bool:
    return any(spelling in text for spelling in _spellings(account))


def _starred(text: str, account: Account) -> str:
    for spelling in sorted(_spellings(account), key=len, reverse=True):
        text = text.replace(spelling.decode("utf-8", "backslashreplace"), _STARS)
    return text

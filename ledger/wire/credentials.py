"""What stands in for a signature where a provider signs nothing: a secret that every request carries.

It proves who calls and not what is said, so it is only as good as the TLS around it. Providers differ in what they let
a customer configure, so the account's options choose: a password, a header, a parameter of the address, or a digest of
the body under a header of the provider's choice.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Final, Literal

import msgspec

from ledger.wire import signature
from ledger.wire.contract import Account, Webhook

Auth = Literal["basic", "header", "query", "hmac"]

#: Where a secret travels unless the account's options name another header or parameter.
NAMES: Final = {"header": "x-webhook-secret", "query": "token"}


class Credentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests of an account prove where they come from."""

    auth: Auth = "basic"
    name: str | None = None  #: of the header or parameter; for "hmac", of the header with the digest
    algorithm: Literal["sha256", "sha512", "sha1"] = "sha256"  #: of "hmac"
    encoding: Literal["hex", "base64"] = "hex"  #: of "hmac"
    prefix: str = ""  #: of "hmac": what stands before the digest, such as "sha256="

    def __post_init__(self) -> None:
        if self.auth == "hmac" and not self.name:
            raise ValueError('name: the header that carries the digest is required with auth = "hmac"')
        if self.auth == "basic" and self.name:
            raise ValueError("name: a password always travels in the header Authorization")


def scheme(
    kind: type[Credentials],
) -> tuple[Callable[[Webhook, Account], bool], Callable[[Webhook, Account], bytes | None]]:
    """Return `authenticate` and `signed_text` of a provider whose options are of this kind."""
    default = kind()

    def chosen(account: Account) -> Credentials:
        return account.options if isinstance(account.options, kind) else default

    def authenticate(webhook: Webhook, account: Account) -> bool:
        return are_good(chosen(account), webhook, account)

    def signed_text(webhook: Webhook, account: Account) -> bytes | None:
        return webhook.body if chosen(account).auth == "hmac" else None

    return authenticate, signed_text


def check_secret(secret: bytes, account: Account) -> str | None:
    """Say what is wrong with a secret that is no password although the account's options ask for one."""
    needs_name = isinstance(account.options, Credentials) and account.options.auth == "basic"
    return "is no password: name and password, joined by a colon" if needs_name and b":" not in secret else None


def are_good(told: Credentials, webhook: Webhook, account: Account) -> bool:
    """Tell whether a request carries one of the account's secrets, or for "hmac" a digest made with one."""
    secrets = signature.usable(account.secrets)
    match told.auth:
        case "basic":
            given = [_password(value) for value in webhook.headers.all("authorization")]
            return signature.matches_any(map(b64encode, secrets), given)
        case "header":
            return signature.matches_any(secrets, webhook.headers.all(_name(told)))
        case "query":
            value = webhook.parameter(_name(told))
            return value is not None and signature.matches_any(secrets, [value.encode("utf-8", "replace")])
        case "hmac":
            return signature.matches_any(_digests(told, secrets, webhook.body), webhook.headers.all(_name(told)))


def _name(told: Credentials) -> str:
    name = told.name or NAMES[told.auth]
    return name if told.auth == "query" else name.strip().lower()


def _password(header: bytes) -> bytes:
    scheme, _, encoded = header.strip().partition(b" ")
    return encoded.strip() if scheme.lower() == b"basic" else b""


def _digests(told: Credentials, secrets: Iterable[bytes], body: bytes) -> Iterable[bytes]:
    sign = signature.hmac_hex if told.encoding == "hex" else signature.hmac_base64
    return (told.prefix.encode() + sign(secret, body, told.algorithm) for secret in secrets)

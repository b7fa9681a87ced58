"""Users of the pages: told in the configuration, with hashes of their passwords (scrypt, RFC 7914).

A hash is written as `scrypt$LOG2_N$R$P$SALT$HASH`, salt and hash in base64. The cost goes with it, so that hashes made
under another cost stay good. `status-ledger users hash` makes one.
"""

import base64
import binascii
import hashlib
import hmac
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from os import urandom
from typing import Any, Final

import msgspec

from ledger.screens.access import Role
from ledger.wire.contract import Secret

USER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
ALL_ACCOUNTS: Final = "*"
PASSWORD_CHARACTERS_MIN: Final = 12
PASSWORD_BYTES_MAX: Final = 1_024

#: OWASP's second choice for scrypt (N=2^16, r=8, p=2): 64 MiB and about a quarter of a second.
_LOG2_N, _R, _P = 16, 8, 2
_LOG2_N_BOUNDS: Final = (14, 20)
_R_P_MAX: Final = 16
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32


class PasswordHash(msgspec.Struct, frozen=True):
    log2_n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    def __str__(self) -> str:
        salt, hash_ = (base64.b64encode(part).decode() for part in (self.salt, self.hash))
        return f"scrypt${self.log2_n}${self.r}${self.p}${salt}${hash_}"

    def __repr__(self) -> str:
        return "PasswordHash(***)"

    def matches(self, password: str) -> bool:
        """Compare in constant time. Takes a quarter of a second: not for the event loop."""
        return hmac.compare_digest(self.hash, _scrypt(password, self.log2_n, self.r, self.p, self.salt))


class User(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    password: PasswordHash
    role: Role
    accounts: frozenset[str] | None  #: None: all, those included that are configured later


def hash_password(password: str) -> PasswordHash:
    salt = urandom(_SALT_BYTES)
    return PasswordHash(_LOG2_N, _R, _P, salt, _scrypt(password, _LOG2_N, _R, _P, salt))


def parse_hash(text: str) -> PasswordHash:
    """Read a hash as written. Raises ValueError that does not repeat it."""
    try:
        scheme, log2_n, r, p, salt, hash_ = text.split("$")
        if not all(re.fullmatch(r"[0-9]{1,2}", number) for number in (log2_n, r, p)):
            raise ValueError
        salt_, hashed = (base64.b64decode(part, validate=True) for part in (salt, hash_))
        read = PasswordHash(int(log2_n), int(r), int(p), salt_, hashed)
    except (ValueError, binascii.Error):
        raise ValueError("is not what `status-ledger users hash` prints") from None
    low, high = _LOG2_N_BOUNDS
    sizes_fit = len(read.salt) >= _SALT_BYTES and len(read.hash) == _HASH_BYTES
    cost_fits = low <= read.log2_n <= high and 1 <= read.r <= _R_P_MAX and 1 <= read.p <= _R_P_MAX
    if scheme != "scrypt" or not sizes_fit or not cost_fits:
        raise ValueError("is not what `status-ledger users hash` prints")
    return read


#: Compared with when there is no such user, so that an answer takes as long for a name that nobody has.
NOBODY: Final = PasswordHash(_LOG2_N, _R, _P, bytes(_SALT_BYTES), bytes(_HASH_BYTES))


def _scrypt(password: str, log2_n: int, r: int, p: int, salt: bytes) -> bytes:
    """Hash a password. The same characters give the same hash, however a keyboard composes them (NFKC)."""
    told = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    memory = 128 * r * (2**log2_n + p + 2)
    return hashlib.scrypt(told, salt=salt, n=2**log2_n, r=r, p=p, maxmem=memory, dklen=_HASH_BYTES)


# Configuration --------------------------------------------------------------------------------------------------------


class UserTable(msgspec.Struct, forbid_unknown_fields=True):
    """One `[users.NAME]` table."""

    password: str
    role: str
    accounts: list[str]


def read(name: str, table: Mapping[str, Any], accounts: Collection[str], resolve: Callable[[str], Secret]) -> User:
    """Read a table. Raises ValueError that names the key and never its value."""
    if not USER_NAME.fullmatch(name):
        raise ValueError("the name must be 1 to 64 of a-z, 0-9 and . _ @ -")
    try:
        told = msgspec.convert(table, UserTable)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if told.role not in [*Role]:
        raise ValueError(f"role must be one of {', '.join(Role)}")
    try:
        password = parse_hash(resolve(told.password).reveal().decode("utf-8", "replace"))
    except ValueError as error:
        raise ValueError(f"password: {error}") from None
    if not told.accounts:
        raise ValueError('accounts must name at least one account, or "*" for all of them')
    unknown = [each for each in told.accounts if each != ALL_ACCOUNTS and each not in accounts]
    if unknown:
        raise ValueError(f"accounts: no account is called {', '.join(unknown)}")
    seen = None if ALL_ACCOUNTS in told.accounts else frozenset(told.accounts)
    return User(name=name, password=password, role=Role(told.role), accounts=seen)

"""Who looks at a page, and what they may do there: one table of roles."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from ledger.domain.status import Channel


class Permission(StrEnum):
    SIGN_IN = "sign in"  #: nobody needs to be known for it
    READ = "read"  #: messages, failures and reports
    EVIDENCE = "evidence"  #: what a provider sent, word for word, and the check of its place in the log
    OPERATIONS = "operations"  #: health of providers, read models, what needs attention
    RESOLVE = "resolve"  #: settle what needs attention
    REBUILD = "rebuild"  #: rebuild a read model: for everybody, so by those only who see every account


class Role(StrEnum):
    VIEWER = "viewer"
    AUDITOR = "auditor"
    OPERATOR = "operator"


#: What each role may do.
PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.AUDITOR: frozenset({Permission.READ, Permission.EVIDENCE, Permission.OPERATIONS}),
    Role.OPERATOR: frozenset(Permission) - {Permission.SIGN_IN},
}
#: What concerns the whole deployment, and not one account.
DEPLOYMENT_WIDE: Final = frozenset({Permission.REBUILD})


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever looks at a page. `accounts` and `channel` bound everything that a page may show: None means all."""

    name: str  #: shown, and written into the access log: a user's name, or a key's id
    role: Role
    accounts: frozenset[str] | None = None
    channel: Channel | None = None  #: of the API key
    key_id: str | None = None  #: signed in with this API key
    expires_at: datetime  #: when the session ends

    @property
    def sees_everything(self) -> bool:
        return self.accounts is None and self.channel is None

    def sees(self, account: str, channel: Channel | str) -> bool:
        """Tell whether messages of an account and channel exist for this viewer."""
        return (self.accounts is None or account in self.accounts) and self.channel in (None, channel)

    def may(self, permission: Permission) -> bool:
        return permission in PERMISSIONS[self.role] and (permission not in DEPLOYMENT_WIDE or self.sees_everything)

    def scopes(self, places: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return those of these accounts and channels that this viewer sees."""
        return [(account, channel) for account, channel in places if self.sees(account, channel)]

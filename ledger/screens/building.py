"""Builds the pages of what the service is made of."""

from collections.abc import Callable, Mapping, Sequence

from starlette.routing import BaseRoute

from ledger.http.broadcast import Broadcaster
from ledger.http.edge import Edge
from ledger.proof.notes import PublicKey
from ledger.screens.csrf import Guard
from ledger.screens.failures import FailuresPage
from ledger.screens.live import MessageStream
from ledger.screens.message import MessagePage
from ledger.screens.messages import MessagesPage
from ledger.screens.operations import OperationsPage
from ledger.screens.proof import ProofBadge
from ledger.screens.reports import ReportsPage
from ledger.screens.routes import Router, table
from ledger.screens.sessions import Sessions
from ledger.screens.sign_in import ATTEMPTS_PER_ADDRESS, ATTEMPTS_PER_NAME, ATTEMPTS_SECONDS, SignIn
from ledger.screens.users import User
from ledger.store.application import Ledger
from ledger.store.keys import ApiKeys
from ledger.store.rate_limits import RateLimiter
from ledger.wire.contract import Account
from projections.current_status import CurrentStatus
from projections.feed import Projection
from projections.message_search import MessageSearch
from projections.reporting import Reporting


def screens(
    *,
    edge: Edge,
    ledger: Ledger,
    keys: ApiKeys,
    messages: CurrentStatus,
    broadcaster: Broadcaster,
    public_key: Callable[[str], PublicKey],
    users: Mapping[str, User],
    deployment_secret: bytes,
    public_url: str | None,
    reporting: Reporting,
    projections: Sequence[Projection],
    accounts: Mapping[str, Account],
) -> list[BaseRoute]:
    """Return the routes of every page."""
    sessions = Sessions(deployment_secret=deployment_secret, users=users, keys=keys, public_url=public_url)
    guard = Guard(deployment_secret=deployment_secret, public_url=public_url)
    sign_in = SignIn(
        edge=edge,
        sessions=sessions,
        guard=guard,
        users=users,
        keys=keys,
        per_name=RateLimiter(ledger, ATTEMPTS_PER_NAME, ATTEMPTS_SECONDS),
        per_address=RateLimiter(ledger, ATTEMPTS_PER_ADDRESS, ATTEMPTS_SECONDS),
    )
    search = MessageSearch(ledger, messages)
    return Router(edge=edge, sessions=sessions, guard=guard).routes(
        table(
            sign_in=sign_in,
            messages=MessagesPage(edge=edge, search=search),
            message=MessagePage(edge=edge, ledger=ledger, messages=messages),
            stream=MessageStream(edge=edge, messages=messages, broadcaster=broadcaster),
            proof=ProofBadge(edge=edge, ledger=ledger, messages=messages, public_key=public_key),
            failures=FailuresPage(edge=edge, reporting=reporting, search=search, messages=messages),
            operations=OperationsPage(
                edge=edge,
                ledger=ledger,
                reporting=reporting,
                projections=projections,
                accounts=accounts,
            ),
            reports=ReportsPage(edge=edge, reporting=reporting, search=search),
        )
    )

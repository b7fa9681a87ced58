"""How each provider of an account does: what it sends, how much of it is refused, how late it tells, since when it is
silent.

Traffic is counted where requests come in (`ledger.store.traffic`); it is the only thing here that is not derived from
events. It tells a provider that is silent from one whose signatures we refuse, and a slow provider from a slow ledger.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from projections import sketch
from projections.latency import CALLBACK
from projections.scope import Scope, View

RECENT_MINUTES: Final = 5


class ProviderHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One account at one provider. Counts are of the range that was asked for, rates of the last five minutes."""

    account: str
    provider: str
    callbacks: int  #: answered 200
    callbacks_per_minute: float
    not_authentic: int  #: not signed by any of the account's secrets: answered 401
    refused: int  #: answered otherwise than 200, 401 and 503
    unavailable: int  #: could not be taken in time: answered 503
    last_callback_at: datetime | None  #: ever
    silent_seconds: int | None  #: since then
    unrecognised: int  #: observations whose word no table knows, ever
    open_conflicts: int
    delay_p50: float | None  #: milliseconds from what a callback tells of to its receipt, in the range
    delay_p99: float | None


def query(view: View, scope: Scope, now: datetime, accounts: Mapping[str, str]) -> list[ProviderHealth]:
    """Return every account of the scope. `accounts`: providers by account, as configured."""
    recent = now - timedelta(minutes=RECENT_MINUTES)
    found = []
    for account, provider in sorted(accounts.items()):
        if not scope.includes(account) or scope.provider not in (None, provider):
            continue
        ((callbacks, not_authentic, refused, unavailable, lately),) = view.rows(
            _TRAFFIC, (recent, account, scope.since, max(scope.until, now))
        )
        ((last,),) = view.rows(_LAST, (account,))
        where = "t.account = %s" + (" AND t.channel = %s" if scope.channel is not None else "")
        own = [account, *([scope.channel] if scope.channel is not None else [])]
        ((unrecognised,),) = view.rows(f"SELECT count(*) FROM {{words}} t WHERE {where}", own)
        ((conflicts,),) = view.rows(
            f"SELECT count(*) FROM current_status t WHERE {where} AND t.conflict = 'open' AND t.linked_to IS NULL", own
        )
        ((sketches,),) = view.rows(
            f"SELECT array_agg(t.sketch) FROM {{latency}} t WHERE {where} AND t.measure = %s AND t.hour >= %s"
            " AND t.hour < %s",
            (*own, CALLBACK, scope.since, scope.until),
        )
        p50, p99 = sketch.quantiles(sum(map(sketch.unpack, sketches or ())), (0.5, 0.99))
        found.append(
            ProviderHealth(
                account=account,
                provider=provider,
                callbacks=callbacks,
                callbacks_per_minute=round(lately / RECENT_MINUTES, 3),
                not_authentic=not_authentic,
                refused=refused,
                unavailable=unavailable,
                last_callback_at=last,
                silent_seconds=None if last is None else max(0, int((now - last).total_seconds())),
                unrecognised=unrecognised,
                open_conflicts=conflicts,
                delay_p50=_rounded(p50),
                delay_p99=_rounded(p99),
            )
        )
    return found


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else float(f"{milliseconds:.4g}")


_TRAFFIC: Final = """
SELECT coalesce(sum(accepted), 0)::bigint, coalesce(sum(not_authentic), 0)::bigint, coalesce(sum(refused), 0)::bigint,
       coalesce(sum(unavailable), 0)::bigint, coalesce(sum(accepted) FILTER (WHERE minute >= %s), 0)::bigint
  FROM webhook_traffic WHERE account = %s AND minute >= %s AND minute < %s
"""
_LAST: Final = "SELECT max(last_accepted_at) FROM webhook_traffic WHERE account = %s"

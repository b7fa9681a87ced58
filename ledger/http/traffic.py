"""Counts webhook requests by account and minute, and hands the counts to the store every few seconds.

A request costs a look-up and an addition. What a process has counted since it last handed over is lost when it is
killed: these are figures for people, not evidence.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from ledger.http.edge import Edge
from ledger.http.problems import Problem
from ledger.store import refusals, traffic
from ledger.store.application import Ledger
from ledger.store.refusals import Refusal
from ledger.store.traffic import Traffic

HANDED_OVER_SECONDS: Final = 5.0
#: While the database is away, no more accounts and minutes are kept than this.
_KEPT_MAX: Final = 10_000
#: Of refused requests, the newest are handed over one by one; all are counted.
_REFUSALS_MAX: Final = 20


class Counter:
    def __init__(self, edge: Edge, ledger: Ledger, now: Callable[[], datetime]) -> None:
        self._edge = edge
        self._ledger = ledger
        self._now = now
        self._counted: dict[tuple[str, datetime], Traffic] = {}
        self._refusals: deque[Refusal] = deque(maxlen=_REFUSALS_MAX)

    def count(self, account: str, answer: int) -> None:
        now = self._now()
        key = (account, now.replace(second=0, microsecond=0))
        counted = self._counted.get(key)
        if counted is None:
            if len(self._counted) >= _KEPT_MAX:
                return
            counted = self._counted[key] = Traffic()
        if answer == 200:
            counted.accepted += 1
            counted.last_accepted_at = now
        elif answer == 401:
            counted.not_authentic += 1
        elif answer == 503:
            counted.unavailable += 1
        else:
            counted.refused += 1

    def refused(self, account: str, problem: Problem, request_id: UUID) -> None:
        """Count a request that was turned away, and keep the reason."""
        self.count(account, problem.status)
        self._refusals.append(Refusal(self._now(), account, problem.status, problem.detail, request_id))

    async def run(self) -> None:
        """Hand over until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(HANDED_OVER_SECONDS)
                await self.hand_over()
        finally:
            await self.hand_over()

    async def hand_over(self) -> None:
        refused = [*self._refusals]
        self._refusals.clear()
        try:
            if refused:
                await self._edge.read(refusals.add, self._ledger, refused)
        except Problem:
            self._refusals.extendleft(reversed(refused))
        counted, self._counted = self._counted, {}
        if not counted:
            return
        try:
            await self._edge.read(traffic.add, self._ledger, counted)
        except Problem:
            for key, value in self._counted.items():  # keep for the next time, what came meanwhile included
                known = counted.setdefault(key, Traffic())
                known.accepted += value.accepted
                known.not_authentic += value.not_authentic
                known.refused += value.refused
                known.unavailable += value.unavailable
                known.last_accepted_at = value.last_accepted_at or known.last_accepted_at
            self._counted = counted

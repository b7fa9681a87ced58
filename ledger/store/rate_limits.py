"""Requests a key may make in a window of time, counted in the database, so that all processes share one limit.

A process takes several requests' worth at once and hands them out from memory: the database is asked once for many
requests, and no request is ever let through above the limit.
"""

import math
import threading
import time
from datetime import datetime
from typing import Final

import msgspec

from ledger.store.application import Ledger
from ledger.store.fiber import sleep

#: Share of the limit that a process takes at once.
_LEASE_SHARE: Final = 20
_PAUSE_SECONDS: Final = 0.001


class Limited(Exception):
    """The key has used up its window."""

    def __init__(self, retry_at: datetime, retry_after_seconds: int) -> None:
        super().__init__("rate limit reached")
        self.retry_at = retry_at
        self.retry_after_seconds = retry_after_seconds


class _Lease(msgspec.Struct):
    left: int
    exhausted: bool  #: nothing more to be had in this window
    ends: float  #: by the monotonic clock
    ends_at: datetime


class RateLimiter:
    """Raises Limited; StoreUnavailable if the count cannot be had. Safe for threads and fibers."""

    def __init__(self, ledger: Ledger, requests: int, seconds: int) -> None:
        self._ledger = ledger
        self._requests = requests
        self._seconds = seconds
        self._size = max(1, requests // _LEASE_SHARE)
        self._leases: dict[str, _Lease] = {}
        self._renewing: set[str] = set()  #: keys about which the database is being asked
        self._lock = threading.Lock()

    def take(self, key_id: str) -> None:
        """Count one request of this key. While one caller asks the database, others wait for what it gets."""
        while True:
            with self._lock:
                lease = self._leases.get(key_id)
                if lease is not None and time.monotonic() < lease.ends:
                    if lease.left:
                        lease.left -= 1
                        return
                    if lease.exhausted:
                        raise Limited(lease.ends_at, max(1, math.ceil(lease.ends - time.monotonic())))
                is_mine = key_id not in self._renewing
                self._renewing.add(key_id)
            if not is_mine:
                sleep(_PAUSE_SECONDS)
                continue
            try:
                renewed = self._renew(key_id)
                with self._lock:
                    self._leases[key_id] = renewed
            finally:
                with self._lock:
                    self._renewing.discard(key_id)

    def _renew(self, key_id: str) -> _Lease:
        asked = time.monotonic()
        with self._ledger.reading() as cursor:
            row = cursor.execute(_TAKE, {"key": key_id, "n": self._size, "seconds": self._seconds}).fetchone()
        assert row is not None  # noqa: S101  # the statement returns one row
        used, ends_at, seconds_left = row
        granted = max(0, min(self._size, self._requests - (used - self._size)))
        return _Lease(granted, granted < self._size, asked + float(seconds_left), ends_at)


_TAKE: Final = b"""
INSERT INTO rate_windows AS w (key_id, window_start, used)
VALUES (%(key)s, to_timestamp(floor(extract(epoch FROM clock_timestamp()) / %(seconds)s) * %(seconds)s), %(n)s)
ON CONFLICT (key_id) DO UPDATE SET
    used = CASE WHEN w.window_start = excluded.window_start THEN least(w.used, 1000000000) ELSE 0 END + excluded.used,
    window_start = excluded.window_start
RETURNING used, window_start + make_interval(secs => %(seconds)s),
          extract(epoch FROM window_start + make_interval(secs => %(seconds)s) - clock_timestamp())::float8
"""

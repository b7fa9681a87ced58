"""Durations as mergeable sketches: fixed logarithmic buckets, good to 2 % at every quantile.

A sketch is one long integer of 32-bit lanes, lane *i* counting durations in bucket *i*. So sketches are merged, and
messages taken out again, by adding and subtracting integers. Durations are in milliseconds; the largest bucket takes
everything longer than about 100 days. The scheme is that of DDSketch (Masson, Rim, Lee: VLDB 2019).
"""

from collections.abc import Mapping, Sequence
from math import ceil, exp, log
from typing import Final

#: No quantile is further from the truth than this.
ERROR_MAX: Final = 0.02
_GAMMA: Final = (1 + ERROR_MAX) / (1 - ERROR_MAX)
_LOG: Final = log(_GAMMA)
_LANE_BITS: Final = 32
_LANE_BYTES: Final = _LANE_BITS // 8
BUCKET_MAX: Final = 575


def bucket(milliseconds: float) -> int:
    """Return the bucket of a duration that is not negative."""
    return 0 if milliseconds <= 1 else min(BUCKET_MAX, ceil(log(milliseconds) / _LOG))


def value(bucket_: int) -> float:
    """Return the duration that a bucket stands for, in milliseconds."""
    return 1.0 if bucket_ == 0 else 2 * exp(_LOG * bucket_) / (_GAMMA + 1)


def of(counts: Mapping[int, int]) -> int:
    """Return a sketch, or a change to one, of these counts by bucket."""
    return sum(count << (_LANE_BITS * bucket_) for bucket_, count in counts.items())


def pack(sketch: int) -> bytes:
    return sketch.to_bytes((sketch.bit_length() + 7) // 8, "little")


def unpack(data: bytes) -> int:
    return int.from_bytes(data, "little")


def lanes(sketch: int) -> list[int]:
    """Return the counts by bucket."""
    data = pack(sketch)
    data += bytes(-len(data) % _LANE_BYTES)
    return list(memoryview(data).cast("I")) if data else []


def quantiles(sketch: int, wanted: Sequence[float]) -> list[float | None]:
    """Return the durations in milliseconds below which these shares of all lie; None for an empty sketch."""
    counts = lanes(sketch)
    total = sum(counts)
    if not total:
        return [None] * len(wanted)
    found = []
    for share in wanted:
        rank, seen = share * (total - 1), 0
        for bucket_, count in enumerate(counts):
            seen += count
            if seen > rank:
                found.append(value(bucket_))
                break
    return [*found]

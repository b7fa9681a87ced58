"""How things are named: streams, observations, look-ups, public message ids.

All names are derived with keys that come from one deployment secret. A stream id or a look-up value therefore cannot be
turned back into a phone number or a provider's message id by trying candidates, and a copy of the database alone says
nothing about who was written to.
"""

import hmac
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b, sha1, sha256
from uuid import UUID

from ledger.domain.observation import Observation, Source

#: A public message id is `n * BUCKETS + bucket`, so it routes without a look-up.
BUCKETS = 256
#: Public message ids stay exact in JSON numbers.
MESSAGE_ID_MAX = (1 << 53) - 1

_SEPARATOR = "\x1f"
_REMEMBERED = 8_192


class Names:
    """Derives every name from the deployment secret. Immutable, safe to share between threads."""

    __slots__ = ("_lookup_key", "_namespace", "_observation_key", "stream_id")

    def __init__(self, deployment_secret: bytes) -> None:
        """Raise ValueError for a secret shorter than 16 bytes."""
        if len(deployment_secret) < 16:
            raise ValueError("the deployment secret must have at least 16 bytes")
        self._namespace = hmac.digest(deployment_secret, b"status-ledger stream namespace", "sha256")[:16]
        self._lookup_key = hmac.digest(deployment_secret, b"status-ledger look-ups", "sha256")
        self._observation_key = hmac.digest(deployment_secret, b"status-ledger observations", "sha256")
        #: (account, reference) -> the stream of one message to one recipient: UUIDv5 in this deployment's namespace.
        #: Remembered for a while, because the callback, its row and the next callback ask for the same one.
        self.stream_id: Callable[[str, str], UUID] = lru_cache(_REMEMBERED)(self._stream_id)

    def _stream_id(self, account: str, reference: str) -> UUID:
        name = f"{account}{_SEPARATOR}{reference}".encode("utf-8", "surrogatepass")
        digest = bytearray(sha1(self._namespace + name, usedforsecurity=False).digest()[:16])
        digest[6] = digest[6] & 0x0F | 0x50
        digest[8] = digest[8] & 0x3F | 0x80
        return UUID(bytes=bytes(digest))

    def lookup(self, account: str, kind: str, value: str) -> bytes:
        """Return the 16 bytes under which a personal value can be searched for, and not read."""
        text = f"{account}{_SEPARATOR}{kind}{_SEPARATOR}{value}".encode("utf-8", "surrogatepass")
        return blake2b(text, digest_size=16, key=self._lookup_key).digest()

    def observation(self, source: Source, observation: Observation, part: str = "") -> bytes:
        """Return the identity of an observation. Content only: never a delivery id, a retry counter or our clock."""
        told_at = (
            observation.event_id
            or (_micros(observation.occurred_at) if observation.occurred_at else None)
            or observation.date_text
            or ""
        )
        reference, word, code = (
            observation.reference,
            observation.provider_status.strip().lower(),
            observation.error_code or "",
        )
        return self._digest(
            f"{len(reference)}:{reference}{len(part)}:{part}{len(source)}:{source}"
            f"{len(word)}:{word}{len(told_at)}:{told_at}{len(code)}:{code}"
        )

    def digest(self, *texts: str) -> bytes:
        """Return a keyed 16-byte digest of a tuple of texts. Each goes in with its length: no text can imitate two."""
        return self._digest("".join([f"{len(text)}:{text}" for text in texts]))

    def _digest(self, framed: str) -> bytes:
        return blake2b(framed.encode("utf-8", "surrogatepass"), digest_size=16, key=self._observation_key).digest()

    def item_digest(self, item: bytes) -> bytes:
        """Return a keyed 16-byte digest of an evidence item: low-entropy text cannot be guessed back from it."""
        return self.content_digest(item)[:16]

    def content_digest(self, content: bytes) -> bytes:
        """Return a keyed 32-byte digest, the first half of which is the item digest."""
        return blake2b(content, digest_size=32, key=self._observation_key).digest()


def bucket(stream_id: UUID) -> int:
    return stream_id.int >> 120


def partition(stream_id: UUID, partitions: int) -> int:
    return (stream_id.int >> 120) % partitions


def bucket_of_message(message_id: int) -> int:
    return message_id % BUCKETS


def request_digest(body: bytes) -> bytes:
    return sha256(body).digest()


def _micros(instant: datetime) -> str:
    return instant.isoformat()

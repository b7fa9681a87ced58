"""Sends checkpoints to whoever subscribes: witnesses and archives that speak the tlog-witness protocol of C2SP.

    POST <address>/add-checkpoint      old SIZE, the consistency proof from there, an empty line, the signed checkpoint
    200                                the receiver's own signatures, which are kept
    409                                the size that the receiver knows, from which it is told again

(tlog-witness, read November 2026.) Every receiver gets the newest checkpoint of every partition. One that does not
answer is left alone for a while, and then told of all it has missed in one step. Addresses are the operator's; they may
hold a token and are never logged but for the host.
"""

import re
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from hashlib import sha256
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import structlog

from ledger.proof import notes
from ledger.store.checkpoints import Checkpoints
from ledger.wire.contract import Secret

SECONDS_MAX: Final = 5.0
BYTES_MAX: Final = 64 * 1024
#: How long a receiver that did not take a checkpoint is left alone.
REST_SECONDS: Final = 30.0
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n?")

_log = structlog.get_logger("ledger.receivers")


class Answer(NamedTuple):
    status: int
    body: bytes


Post = Callable[[str, bytes], Answer]


def post(url: str, body: bytes) -> Answer:
    """Send a body and return the answer. Redirects are not followed. Raises OSError and HTTPException."""
    parts = urlsplit(url)
    assert parts.hostname is not None  # noqa: S101  # the settings were read so
    connection: HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = HTTPSConnection(parts.hostname, parts.port, timeout=SECONDS_MAX, context=context)
    else:
        connection = HTTPConnection(parts.hostname, parts.port, timeout=SECONDS_MAX)
    try:
        target = f"{parts.path}{'?' + parts.query if parts.query else ''}"
        connection.request("POST", target, body, {"Content-Type": "text/plain; charset=utf-8"})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(BYTES_MAX))
    finally:
        connection.close()


class Receivers:
    """Tells all receivers what is new. Used by the one thread that signs."""

    def __init__(self, urls: Sequence[Secret], *, post: Post = post, now: Callable[[], float] = time.monotonic) -> None:
        self._urls = [url.reveal().decode() for url in urls]
        self._post = post
        self._now = now
        self._resting: dict[str, float] = {}

    def tell(self, checkpoints: Checkpoints, partitions: int) -> None:
        """Send what each receiver does not have yet. Raises what the database raises, and nothing else."""
        for url in self._urls:
            if self._resting.get(url, 0.0) > self._now():
                continue
            for partition in range(partitions):
                if not self._told(checkpoints, url, partition):
                    self._resting[url] = self._now() + REST_SECONDS
                    break

    def _told(self, checkpoints: Checkpoints, url: str, partition: int) -> bool:
        """Bring one receiver up to date about one partition; False if it did not let us."""
        note = checkpoints.newest(partition)
        if note is None:
            return True
        newest, receiver = notes.checkpoint(notes.split(note)[0]), sha256(url.encode()).digest()
        known = checkpoints.delivered(receiver, newest)
        if known >= newest.position:
            return True
        host = urlsplit(url).hostname
        for _ in range(2):
            body = _body(known, checkpoints.consistency(newest, known), note)
            try:
                answer = self._post(f"{url}/add-checkpoint", body)
            except (OSError, HTTPException) as error:
                _log.warning("checkpoint_not_delivered", host=host, why=type(error).__name__)
                return False
            if answer.status == 200:
                checkpoints.keep_delivery(receiver, newest, answer.body.decode("utf-8", "replace").replace("\x00", ""))
                return True
            size = _SIZE.fullmatch(answer.body) if answer.status == 409 else None
            if size is None or int(size[1]) == known or int(size[1]) > newest.position:
                _log.warning("checkpoint_not_delivered", host=host, why=f"status {answer.status}")
                return False
            known = int(size[1])
        _log.warning("checkpoint_not_delivered", host=host, why="it does not keep to the size that it told")
        return False


def _body(known: int, proof: Sequence[bytes], note: str) -> bytes:
    lines = [f"old {known}", *(b64encode(hash_).decode() for hash_ in proof), "", note]
    return "\n".join(lines).encode()

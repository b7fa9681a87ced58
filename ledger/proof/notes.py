"""Signed notes and checkpoints, as C2SP specifies them (signed-note, tlog-checkpoint; read November 2026).

A note is text, an empty line, and one line a signature: em dash, key name, base64 of key id and signature. Ours are
Ed25519. A checkpoint is a note that names a log, its size and its Merkle root; ours go on with the chain hash and the
time of the last event, each on a line of its own. Witnesses and tools that know the format read both.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ledger.wire.contract import Secret

SIGNATURE: Final = "— "
#: Ed25519 over the note's text.
_ED25519: Final = b"\x01"
_NOTE_BYTES_MAX: Final = 4 * 1024 * 1024
_SIGNATURES_MAX: Final = 64
_NAME: Final = re.compile(r"[^\s+]+")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_ORIGIN: Final = re.compile(r"(?P<log>[^\s+]+)/p(?P<partition>[0-9]{1,3})")


class NoteBroken(ValueError):
    """The note is not one, or no key that is trusted has signed it. The text says which."""


class NoteUntrusted(NoteBroken):
    """It may be a good note, but no key that is trusted has signed it."""


class PublicKey:
    """A named key that notes are verified with. Raises NoteBroken for a text that is no such key."""

    def __init__(self, text: str) -> None:
        name, _, rest = text.strip().partition("+")
        hint, _, encoded = rest.partition("+")
        try:
            raw = _bytes(encoded)
            told = bytes.fromhex(hint)
        except ValueError:
            raise NoteBroken("not a public key in the form name+id+key") from None
        if not _NAME.fullmatch(name) or len(raw) != 33 or raw[:1] != _ED25519:
            raise NoteBroken("not the public key of an Ed25519 signer")
        self.name = name
        self.raw = raw[1:]
        self.id = _key_id(name, self.raw)
        if told != self.id:
            raise NoteBroken("the public key does not have the id it is written with")
        self._key = Ed25519PublicKey.from_public_bytes(self.raw)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(_ED25519 + self.raw).decode()}"

    def renamed(self, name: str) -> "PublicKey":
        """Return the same key under another name: one key signs for all partitions of a ledger."""
        return PublicKey(_written(name, self.raw))

    def verify(self, text: str, signature: bytes) -> bool:
        try:
            self._key.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class Signer:
    """Signs notes with one Ed25519 key, under any name. Never prints it."""

    def __init__(self, seed: Secret) -> None:
        """`seed` has 32 bytes. Raises ValueError for another length."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed.reveal())
        self._public = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return "Signer('***')"

    def public_key(self, name: str) -> PublicKey:
        return PublicKey(_written(name, self._public))

    def sign(self, text: str, name: str) -> str:
        """Return the note. `text` ends in a line feed and has no control character but that."""
        if not text.endswith("\n") or any(character < " " and character != "\n" for character in text):
            raise ValueError("a note is lines of text")
        signature = _key_id(name, self._public) + self._key.sign(text.encode())
        return f"{text}\n{SIGNATURE}{name} {b64encode(signature).decode()}\n"


def _bytes(encoded: str) -> bytes:
    """Decode base64 as it is encoded and not otherwise. Raises ValueError."""
    raw = b64decode(encoded, validate=True)
    if b64encode(raw).decode() != encoded:
        raise ValueError("not the base64 of anything")
    return raw


def _written(name: str, raw: bytes) -> str:
    return f"{name}+{_key_id(name, raw).hex()}+{b64encode(_ED25519 + raw).decode()}"


def _key_id(name: str, raw: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + raw).digest()[:4]


def split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """Return a note's text and its signatures as (name, id and signature). Raises NoteBroken for what is no note."""
    if len(note) > _NOTE_BYTES_MAX or any(character < " " and character != "\n" for character in note):
        raise NoteBroken("not a note: too long, or control characters")
    text, empty, lines = note.rpartition("\n\n")
    found = lines.removesuffix("\n").split("\n")
    if not empty or not lines.endswith("\n") or not 0 < len(found) <= _SIGNATURES_MAX:
        raise NoteBroken("not a note: text, an empty line and signatures")
    signatures = []
    for line in found:
        name, _, encoded = line.removeprefix(SIGNATURE).partition(" ")
        try:
            signature = _bytes(encoded)
        except ValueError:
            raise NoteBroken("not a note: a signature is not base64") from None
        if not line.startswith(SIGNATURE) or not _NAME.fullmatch(name) or len(signature) <= 4:
            raise NoteBroken("not a note: a signature is not one")
        signatures.append((name, signature))
    return text + "\n", signatures


def opened(note: str, keys: Iterable[PublicKey]) -> str:
    """Return the text of a note that one of the keys has signed.

    A key signs under its own name and, since one key signs for all partitions of a ledger, under the name that the note
    itself gives as origin. Raises NoteUntrusted if none has, NoteBroken if a signature that claims to be of one is not.
    """
    text, signatures = split(note)
    origin = text.split("\n", 1)[0]
    trusted = list(keys)
    good = False
    for name, signature in signatures:
        for key in trusted:
            if name not in (key.name, origin) or _key_id(name, key.raw) != signature[:4]:
                continue
            if not key.verify(text, signature[4:]):
                raise NoteBroken("the signature does not fit the text")
            good = True
    if not good:
        raise NoteUntrusted("no key that is trusted has signed this")
    return text


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What is stated of a partition: it has this many events, this Merkle root, and the last one this hash and time."""

    log: str  #: the ledger's name
    partition: int
    position: int  #: of the last event, which is the size of the tree
    root: bytes
    hash: bytes
    recorded_at: datetime

    @property
    def origin(self) -> str:
        return origin(self.log, self.partition)

    def text(self) -> str:
        time = self.recorded_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        root_, hash_ = b64encode(self.root).decode(), b64encode(self.hash).decode()
        return f"{self.origin}\n{self.position}\n{root_}\nchain {hash_}\ntime {time}\n"


def origin(log: str, partition: int) -> str:
    return f"{log}/p{partition}"


def checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text, whose signature the caller has verified. Raises NoteBroken for another text."""
    lines = text.split("\n")
    try:
        if len(lines) != 6 or lines[5] or not lines[3].startswith("chain ") or not lines[4].startswith("time "):
            raise ValueError
        named, size = _ORIGIN.fullmatch(lines[0]), _SIZE.fullmatch(lines[1])
        if named is None or size is None:
            raise ValueError
        recorded_at = datetime.fromisoformat(lines[4][5:])
        found = Checkpoint(
            log=named["log"],
            partition=int(named["partition"]),
            position=int(size[0]),
            root=_bytes(lines[2]),
            hash=_bytes(lines[3][6:]),
            recorded_at=recorded_at,
        )
        if recorded_at.tzinfo is None or len(found.root) != 32 or len(found.hash) != 32 or found.text() != text:
            raise ValueError
    except ValueError:
        raise NoteBroken("not a checkpoint of a status ledger") from None
    return found


def several(text: str) -> list[str]:
    """Split a file of checkpoints, one after another, into notes. Raises NoteBroken if what is left over is no note.

    A last line that was cut short by a crash is left out: it was not written, and nobody was told of it.
    """
    notes: list[str] = []
    lines: list[str] = []
    signed = False
    for line in re.findall(r"[^\n]*\n", text):
        if signed and not line.startswith(SIGNATURE):
            notes.append("".join(lines))
            lines = []
        lines.append(line)
        signed = line.startswith(SIGNATURE)
    if signed:
        notes.append("".join(lines))
    for note in notes:
        split(note)
    return notes

"""The log in files: one a range of positions of a partition, in compressed lines of JSON, each readable by itself.

    first line    what the file is: format, partition, range, the hash before it, the log's name and public key
    then          one event a line, in the order of positions, as it is stored; bytes in base64
    last line     how many events there were, the hash of the last one, and a signed checkpoint at or behind it

A file is written under another name, read back and verified, and only then gets its own. What is sealed stays sealed:
no key is in any file.
"""

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import msgspec

from ledger.proof.chain import Block, Fault, Place, Walk, middle
from ledger.proof.merkle import HASH_BYTES
from ledger.proof.notes import Checkpoint, NoteBroken, NoteUntrusted, PublicKey, checkpoint, opened

FORMAT: Final = "status-ledger-log.v1"
SUFFIX: Final = ".jsonl.gz"
_BLOCK_EVENTS: Final = 1_000
_LEVEL: Final = 6
Progress = Callable[[int, int], None]


_Partition = Annotated[int, msgspec.Meta(ge=0, lt=1 << 15)]
_Position = Annotated[int, msgspec.Meta(ge=1, lt=1 << 62)]
_Version = Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
_Microseconds = Annotated[int, msgspec.Meta(ge=-(1 << 62), lt=1 << 62)]
#: Of no other length: two hashes joined would look like one after the other.
_Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str = FORMAT
    partition: _Partition
    first: _Position
    last: _Position
    before: _Hash  #: of the position before the first
    log: str
    public_key: str
    written_at: str  #: RFC 3339


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event."""

    position: _Position
    stream_id: UUID
    version: _Version
    type: str
    recorded_at: _Microseconds  #: since 1970
    state: bytes
    hash: _Hash


class Footer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    events: Annotated[int, msgspec.Meta(ge=0)]
    hash: _Hash
    checkpoint: str  #: a signed note that covers the range


class FileBroken(ValueError):
    """The file is not one of ours, or not whole. `position` is the first that cannot be had from it."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


#: How the last line begins.
_END: Final = b'{"events"'
_header: Final = msgspec.json.Decoder(Header).decode
_line: Final = msgspec.json.Decoder(Line).decode
_footer: Final = msgspec.json.Decoder(Footer).decode
_encode: Final = msgspec.json.Encoder().encode


def name_of(partition: int, first: int, last: int) -> str:
    return f"p{partition:03}-{first:015}-{last:015}{SUFFIX}"


def write(path: Path, header: Header, lines: Iterable[Line], checkpoint_: str) -> None:
    """Write a file. The caller verifies it before anything is removed. Raises OSError."""
    count, hash_ = 0, header.before
    with path.open("xb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=_LEVEL, mtime=0) as file:
        file.write(_encode(header) + b"\n")
        for line in lines:
            file.write(_encode(line) + b"\n")
            count, hash_ = count + 1, line.hash
        file.write(_encode(Footer(events=count, hash=hash_, checkpoint=checkpoint_)) + b"\n")


def digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def header(path: Path) -> Header:
    """Raises FileBroken and OSError."""
    with gzip.open(path, "rb") as file:
        try:
            told = _header(file.readline())
            if told.format != FORMAT:
                raise ValueError
        except (ValueError, msgspec.DecodeError, EOFError, zlib.error, gzip.BadGzipFile):
            raise FileBroken(f"{path.name} is not a file of a status ledger's log", 0) from None
    return told


def read(path: Path, wanted: Callable[[Line], bool] = lambda _: True) -> Iterator[list[Line]]:
    """Yield events, some at a time. Raises FileBroken where the file is not whole, and OSError."""
    told = header(path)
    position = told.first
    with gzip.open(path, "rb") as file:
        try:
            file.readline()
            page: list[Line] = []
            for raw in file:
                if raw.startswith(_END):
                    if file.readline():
                        raise FileBroken(f"{path.name} goes on after its end", told.last)
                    break
                line = _line(raw)
                position = line.position + 1
                if wanted(line):
                    page.append(line)
                if len(page) == _BLOCK_EVENTS:
                    yield page
                    page = []
            yield page
        except (msgspec.DecodeError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError):
            at = min(position, told.last)
            raise FileBroken(f"{path.name} cannot be read from position {at} on", at) from None


def footer(path: Path) -> Footer:
    """Return the last line. Reads the whole file. Raises FileBroken and OSError."""
    told, last = header(path), b""
    with gzip.open(path, "rb") as file:
        try:
            for last in file:  # noqa: B007  # the last one is wanted
                pass
            return _footer(last)
        except (msgspec.DecodeError, EOFError, zlib.error, gzip.BadGzipFile):
            raise FileBroken(f"{path.name} has no end", told.last) from None


class Report(msgspec.Struct, kw_only=True):
    """What a verification of files came to."""

    checked: int = 0
    compared: int = 0
    fault: Fault | None = None

    @property
    def ok(self) -> bool:
        return self.fault is None


def verify(
    path: Path,
    keys: Sequence[PublicKey],
    held: Sequence[Checkpoint] = (),
    progress: Progress = lambda _done, _all: None,
) -> Report:
    """Verify a file, or all of a directory, each partition from its first file to its last. Raises OSError.

    Without a trusted key the checkpoints in the files are not looked at: anybody could have signed them.
    """
    report = Report()
    paths = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not paths:
        raise FileNotFoundError(2, f"no files *{SUFFIX}")
    walks: dict[int, Walk] = {}
    wanted = 0
    for file in paths:
        try:
            told = header(file)
            wanted += told.last - told.first + 1
        except FileBroken:
            continue  # it is named when its turn comes
    for file in paths:
        try:
            report.fault = _follow(file, walks, keys, held, lambda done: progress(done, wanted))
        except FileBroken as broken:
            known = next(iter(walks)) if len(walks) == 1 else _partition_of(file)
            report.fault = Fault(Place(partition=known, position=broken.position), str(broken))
        if report.fault is not None:
            break
    report.checked = sum(walk.checked for walk in walks.values())
    report.compared = sum(walk.compared for walk in walks.values())
    return report


def _partition_of(path: Path) -> int:
    digits = path.name[1:4]
    return int(digits) if digits.isdigit() else 0


def _follow(
    path: Path,
    walks: dict[int, Walk],
    keys: Sequence[PublicKey],
    held: Sequence[Checkpoint],
    progress: Callable[[int], None],
) -> Fault | None:
    told = header(path)
    walk = walks.get(told.partition)
    if walk is None:
        states = {each.position: each for each in held if each.partition == told.partition}
        walk = walks[told.partition] = Walk(
            told.partition, position=told.first - 1, hash_=told.before, checkpoints=states
        )
        if told.first == 1 and told.before != bytes(32):
            return walk.fault(1, f"{path.name} says that something stood before the first event")
    if told.first != walk.position + 1:
        return walk.fault(walk.position + 1, f"{path.name} begins at position {told.first}: a file is missing")
    if told.before != walk.hash:
        return walk.fault(told.first, f"{path.name} does not go on from the file before it")
    for page in read(path):
        block = Block(
            [middle(line.stream_id, line.version, line.position, line.type, line.recorded_at) for line in page],
            [line.state for line in page],
            b"".join([line.hash for line in page]),
        )
        fault = walk.follow(block)
        if fault is not None:
            return fault
        progress(sum(each.checked for each in walks.values()))
    end = footer(path)
    if walk.position != told.last or end.events != told.last - told.first + 1 or end.hash != walk.hash:
        return walk.fault(walk.position + 1, f"{path.name} ends at position {walk.position}, not at {told.last}")
    return _signed(walk, end.checkpoint, keys)


def _signed(walk: Walk, note: str, keys: Sequence[PublicKey]) -> Fault | None:
    """Compare the end of a file with the checkpoint that it carries, if that is of the same position and trusted."""
    if not keys:
        return None
    try:
        stated = checkpoint(opened(note, keys))
    except NoteUntrusted:
        return None
    except NoteBroken as broken:
        return walk.fault(walk.position, f"the checkpoint in the file is broken: {broken}")
    if stated.partition != walk.partition:
        return walk.fault(walk.position, "the checkpoint in the file is of another partition")
    return walk.compare(stated) if stated.position == walk.position else None

"""The proof of one message as a file: what an auditor gets, with the script that verifies it.

`bundle.json` has the message's events with the hash before each, an audit path from each to the Merkle root of a signed
checkpoint, the log's public keys and, unless they are left out, the message's data keys, which open what is sealed. The
script beside it (`ledger.proof.bundle_verifier`) knows nothing of this product. README.txt describes every byte.
"""

import zipfile
from base64 import b64encode
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import msgspec

from ledger.proof import bundle_verifier
from ledger.proof.bundle_verifier import NotProved

__all__ = ["Bundle", "NotProved", "ProvedEvent", "check", "write"]

#: A time that does not differ from one bundle to the next: that of the log is inside.
_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)


class ProvedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event, as stored, and its way to the root. Bytes are written in base64."""

    partition: int
    position: int
    stream_id: str
    version: int
    type: str
    recorded_at: int  #: microseconds since 1970
    state: bytes
    previous: bytes  #: hash of the position before
    path: list[bytes]


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    format: str = bundle_verifier.FORMAT
    message_id: int  #: that of the stream's first event, or of a registration that was linked to it
    checkpoints: dict[str, str]  #: by partition, signed notes
    public_keys: list[str]
    data_keys: dict[str, str]  #: by stream, base64; without them what is sealed stays so
    events: list[ProvedEvent]


def check(bundle: Bundle) -> None:
    """Verify a bundle with the script that goes with it. Raises NotProved."""
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(bundle))
    bundle_verifier.check(told, [bundle_verifier.key_bytes(key) for key in bundle.public_keys])
    for event in told["events"]:
        bundle_verifier.told(event, bundle.data_keys)


def write(bundle: Bundle, path: Path) -> None:
    """Write a bundle. Raises OSError; nothing is left half written under its name."""
    package = files("ledger.proof")
    contents = {
        "README.txt": package.joinpath("bundle_readme.txt").read_bytes(),
        "verify.py": package.joinpath("bundle_verifier.py").read_bytes(),
        "bundle.json": msgspec.json.format(msgspec.json.encode(bundle)),
    }
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content, zipfile.ZIP_DEFLATED)
        unfinished.chmod(0o600)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def text(data: bytes) -> str:
    return b64encode(data).decode()

#!/usr/bin/env python3
"""Verifies the proof of one message: needs this file, Python 3.9 or later, and the package `cryptography`.

    python verify.py [--key PUBLIC_KEY] [--checkpoint FILE] [DIRECTORY]

The directory (this file's, unless told) holds `bundle.json`. Its fields and every byte that is hashed or signed are
described in README.txt beside it. PUBLIC_KEY is the log's key as you got it from its owner by another way: with only
the key in the bundle, you know that the bundle fits together, not who made it. FILE is a checkpoint that you hold
yourself: the one in the bundle must state the same. Exit code 0: it is proved. 1: it is not; the reason is printed.
"""

import argparse
import base64
import hashlib
import json
import struct
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = "status-ledger-proof.v1"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

#: `observed.v2` is an array: its fields by place, and the words of those that are numbers.
OPEN_FIELDS = (
    "account provider channel source key claim kind flags verdict skipped status_before status_after kind_after "
    "received_at request_digest item_digest rules occurred_at error_code provider_account event_id date_text transport "
    "part country"
).split()
SEALED_FIELDS = (
    "provider_status provider_message_id recipient error_text client_reference recipient_user_id recipient_raw "
    "participant item"
).split()
STATUSES = ["UNKNOWN", "QUEUED", "SENT", "DELIVERED", "READ", "DELETED", "FAILED"]
WORDS: Dict[str, List[Any]] = {
    "channel": ["whatsapp", "sms", "viber"],
    "source": ["callback", "poll", "sender", "reread"],
    "claim": STATUSES,
    "status_before": STATUSES,
    "status_after": STATUSES,
    "kind": [None, "failed", "undelivered"],
    "kind_after": [None, "failed", "undelivered"],
    "verdict": ["advance", "repeat", "late", "conflict", "note", "redelivered"],
}


class NotProved(Exception):
    """Something does not fit. The text says what."""


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# Notes ----------------------------------------------------------------------------------------------------------------


def key_bytes(text: str) -> bytes:
    """Return the 32 bytes of a public key in the form name+id+base64."""
    try:
        raw = base64.b64decode(text.strip().split("+", 2)[2], validate=True)
    except (IndexError, ValueError):
        raise NotProved("a public key is not in the form name+id+key") from None
    if len(raw) != 33 or raw[0] != 1:
        raise NotProved("a public key is not an Ed25519 key")
    return raw[1:]


def opened(note: str, keys: Sequence[bytes]) -> List[str]:
    """Return the lines of a note that one of the keys has signed under the name in its first line."""
    text, separator, signatures = note.rpartition("\n\n")
    text += "\n"
    origin = text.split("\n", 1)[0]
    if not separator:
        raise NotProved("a checkpoint is not a signed note")
    for line in signatures.rstrip("\n").split("\n"):
        dash, _, rest = line.partition(" ")
        name, _, encoded = rest.partition(" ")
        if dash != "\u2014" or name != origin:
            continue
        signature = base64.b64decode(encoded)
        for key in keys:
            if sha256(name.encode(), b"\n\x01", key)[:4] != signature[:4]:
                continue
            try:
                Ed25519PublicKey.from_public_bytes(key).verify(signature[4:], text.encode())
            except InvalidSignature:
                raise NotProved("the signature of a checkpoint does not fit it") from None
            return text.split("\n")
    raise NotProved("no trusted key has signed a checkpoint")


# Chain and tree -------------------------------------------------------------------------------------------------------


def event_hash(event: Dict[str, Any]) -> bytes:
    """Return an event's link of the chain, which is its leaf of the tree."""
    return sha256(
        b"\x00",
        base64.b64decode(event["previous"]),
        bytes.fromhex(event["stream_id"].replace("-", "")),
        struct.pack(">QQ", event["version"], event["position"]),
        event["type"].encode(),
        struct.pack(">q", event["recorded_at"]),
        sha256(base64.b64decode(event["state"])),
    )


def root_of(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the Merkle root that an audit path leads to (RFC 9162, section 2.1.3.2); None if it is none."""
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = sha256(b"\x01", sibling, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = sha256(b"\x01", found, sibling)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def check(bundle: Dict[str, Any], keys: Sequence[bytes], held: Sequence[str] = ()) -> None:
    """Raise NotProved unless every event of the bundle is in the log that a trusted key has signed."""
    if bundle.get("format") != FORMAT:
        raise NotProved(f"the bundle is not of format {FORMAT}")
    checkpoints = {}
    for partition, note in bundle["checkpoints"].items():
        lines = opened(note, keys)
        if not lines[0].endswith(f"/p{partition}"):
            raise NotProved("a checkpoint is of another partition than the bundle says")
        checkpoints[int(partition)] = (int(lines[1]), base64.b64decode(lines[2]))
        same = [other for other in held if other.split("\n")[:2] == lines[:2]]
        if held and not any(other.split("\n")[2] == lines[2] for other in same):
            raise NotProved("the checkpoint that you hold is another one than that of the bundle")
    versions: Dict[str, int] = {}
    if not bundle["events"]:
        raise NotProved("the bundle has no events")
    for event in bundle["events"]:
        where = f"position {event['position']} of partition {event['partition']}"
        size, root = checkpoints[event["partition"]]
        path = [base64.b64decode(each) for each in event["path"]]
        leaf = event_hash(event)  # a link of the chain is made as a leaf is: SHA-256(0x00 | data)
        if not 0 < event["position"] <= size or root_of(leaf, event["position"] - 1, size, path) != root:
            raise NotProved(f"the event at {where} is not in the log that the checkpoint states")
        if event["version"] != versions.get(event["stream_id"], 0) + 1:
            raise NotProved(f"an event of the message is missing before {where}")
        versions[event["stream_id"]] = event["version"]
    asked = bundle["message_id"]
    if not any(
        event["version"] == 1 and event["position"] * 256 + int(event["stream_id"][:2], 16) == asked
        for event in bundle["events"]
    ):
        raise NotProved("the events are not those of the message that the bundle names")


# Reading what was recorded --------------------------------------------------------------------------------------------


def unpack(data: bytes) -> Any:
    """Decode MessagePack, as far as events use it."""
    value, end = _value(data, 0)
    if end != len(data):
        raise NotProved("an event has bytes left over")
    return value


def _value(data: bytes, at: int) -> Tuple[Any, int]:
    tag = data[at]
    at += 1
    if tag < 0x80:
        return tag, at
    if tag >= 0xE0:
        return tag - 256, at
    if tag < 0x90:
        return _map(data, at, tag & 15)
    if tag < 0xA0:
        return _array(data, at, tag & 15)
    if tag < 0xC0:
        return data[at : at + (tag & 31)].decode(), at + (tag & 31)
    if tag in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[tag], at
    if tag in (0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB):
        width = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}[tag]
        size = int.from_bytes(data[at : at + width], "big")
        found = data[at + width : at + width + size]
        return (found.decode() if tag >= 0xD9 else found), at + width + size
    if tag in (0xCA, 0xCB):
        width = 4 if tag == 0xCA else 8
        return struct.unpack(">f" if width == 4 else ">d", data[at : at + width])[0], at + width
    if 0xCC <= tag <= 0xD3:
        width = 1 << (tag & 3)
        return int.from_bytes(data[at : at + width], "big", signed=tag >= 0xD0), at + width
    if tag in (0xDC, 0xDD, 0xDE, 0xDF):
        width = 2 if tag in (0xDC, 0xDE) else 4
        size = int.from_bytes(data[at : at + width], "big")
        return (_array if tag < 0xDE else _map)(data, at + width, size)
    if tag in (0xD6, 0xD7, 0xC7) and data[at + (tag == 0xC7)] == 0xFF:
        return _time(data, at, tag)
    raise NotProved("an event has a MessagePack type that events do not use")


def _array(data: bytes, at: int, size: int) -> Tuple[List[Any], int]:
    found = []
    for _ in range(size):
        value, at = _value(data, at)
        found.append(value)
    return found, at


def _map(data: bytes, at: int, size: int) -> Tuple[Dict[Any, Any], int]:
    flat, at = _array(data, at, 2 * size)
    return dict(zip(flat[::2], flat[1::2])), at


def _time(data: bytes, at: int, tag: int) -> Tuple[datetime, int]:
    if tag == 0xD6:
        nanoseconds, seconds, end = 0, int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    elif tag == 0xD7:
        both, end = int.from_bytes(data[at + 1 : at + 9], "big"), at + 9
        nanoseconds, seconds = both >> 34, both & (1 << 34) - 1
    else:
        nanoseconds, end = int.from_bytes(data[at + 2 : at + 6], "big"), at + 14
        seconds = int.from_bytes(data[at + 6 : at + 14], "big", signed=True)
    return EPOCH + timedelta(seconds=seconds, microseconds=nanoseconds // 1000), end


def told(event: Dict[str, Any], data_keys: Dict[str, str]) -> Dict[str, Any]:
    """Return what an event says: the open part and, with the message's data key, the sealed one."""
    state = base64.b64decode(event["state"])
    end = 5 + int.from_bytes(state[1:5], "big")
    said = unpack(state[5:end])
    sealed, key = state[end:], data_keys.get(event["stream_id"])
    if event["type"] == "observed.v2":
        said = dict(zip(OPEN_FIELDS, said))
        for field, words in WORDS.items():
            said[field] = words[said[field]]
        said["skipped"] = [STATUSES[number] for number in said["skipped"]]
    if sealed and key is not None:
        place = bytes.fromhex(event["stream_id"].replace("-", "")) + struct.pack(">Q", event["version"]) + b"event"
        try:
            personal = unpack(AESGCM(base64.b64decode(key)).decrypt(sealed[:12], sealed[12:], place))
        except InvalidTag:
            raise NotProved(f"the sealed part of position {event['position']} does not open") from None
        if isinstance(personal, list):
            personal = dict(zip(SEALED_FIELDS, personal))
        said = {**said, **personal}
    elif sealed:
        said["sealed"] = f"{len(sealed)} bytes that only the message's data key opens"
    return {name: value for name, value in said.items() if value not in (None, "", b"", [])}


def shown(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            return value.hex()
        return text if text.isprintable() and len(text) > 8 else value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Verify the proof of one message.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent)
    parser.add_argument("--key", action="append", help="the log's public key, as you got it by another way")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint that you hold yourself")
    asked = parser.parse_args(arguments)
    try:
        bundle = json.loads((asked.directory / "bundle.json").read_text("utf-8"))
        keys = [key_bytes(text) for text in (asked.key or bundle["public_keys"])]
        held = [asked.checkpoint.read_text("utf-8")] if asked.checkpoint else []
        check(bundle, keys, held)
        for event in bundle["events"]:
            at = EPOCH + timedelta(microseconds=event["recorded_at"])
            print(f"\nposition {event['position']}, recorded {at.isoformat()}: {event['type']}")
            for name, value in told(event, bundle["data_keys"]).items():
                print(f"    {name}: {shown(value)}")
    except NotProved as reason:
        print(f"NOT PROVED: {reason}")
        return 1
    except (KeyError, IndexError, TypeError, ValueError, OSError, RecursionError, struct.error) as error:
        print(f"NOT PROVED: the bundle cannot be read ({type(error).__name__})")
        return 1
    print(f"\nPROVED: {len(bundle['events'])} events of message {bundle['message_id']} are in the log as shown.")
    if not asked.key:
        print("The key came with the bundle. Compare it with the one that the log's owner publishes:")
        print("\n".join(bundle["public_keys"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

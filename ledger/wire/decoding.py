"""Turning a request's bytes into values an adapter can trust. The only place where provider bytes are decoded.

Whatever the bytes, the outcome is a value or `Malformed`; msgspec's own exceptions, bad UTF-8, hostile nesting and
numbers beyond any type never leave this module. Adapters read items with `lenient_reader`, or take a field as `Raw`
and read it by `loose`: a field we merely like to have must never cost a status we need. The convention
whose breach would be silent: `null`, blank and absent are one and the same, here and in every adapter.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import msgspec
from msgspec import Raw

from ledger.domain.observation import Observation
from ledger.wire.contract import Malformed, Parsed, Unreadable, Webhook

#: Items in one request, over all levels. The largest batch documented by a provider is 1,000.
ITEMS_MAX: Final = 10_000
#: Characters of an identifier, a status word or an error code.
WORD_MAX: Final = 1_024
#: Characters of a free text; the evidence keeps the rest.
TEXT_MAX: Final = 4_096
#: Bytes of a whole request that may be the evidence of each of its recipients.
EVIDENCE_BYTES_MAX: Final = 16 * 1024
#: Joins message and recipient where recipients share an id. Nothing that is an id or an address has one.
RECIPIENT_SEPARATOR: Final = "|"
#: Default of an optional field: absent is null.
ABSENT: Final = Raw(b"null")

T = TypeVar("T")

_ANY: Final = msgspec.json.Decoder()
_RAW: Final = msgspec.json.Decoder(Raw)
_LIST: Final = msgspec.json.Decoder(list[Raw])
_LIST_OR_NULL: Final = msgspec.json.Decoder(list[Raw] | None)
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Raw])
_BLANK: Final = b" \t\r\n"
_INTEGERS: Final = range(-(1 << 63), 1 << 64)
_PHONE_DIGITS: Final = range(7, 16)
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


# JSON -----------------------------------------------------------------------------------------------------------------


def json_reader(shape: type[T], place: str) -> Callable[[bytes | Raw], T]:
    """Build a reader of one shape, once per module. It raises Malformed, naming `place`, for anything else."""
    return _reader(msgspec.json.Decoder(shape), place)


def _reader(decoder: msgspec.json.Decoder[T], place: str) -> Callable[[bytes | Raw], T]:
    decode = decoder.decode

    def read(data: bytes | Raw) -> T:
        try:
            return decode(data)
        except msgspec.DecodeError as problem:  # its texts name types and our own fields, never values
            raise Malformed(f"{place}: {problem}") from problem
        except RecursionError as problem:
            raise Malformed(f"{place}: nested too deeply") from problem
        except OverflowError as problem:
            raise Malformed(f"{place}: a number is out of range") from problem
        except ValueError as problem:  # bad UTF-8 within a text, an integer of thousands of digits
            raise Malformed(f"{place}: a value cannot be represented") from problem

    return read


def lenient_reader(shape: type[T], place: str) -> Callable[[bytes | Raw], T]:
    """Build a reader of one shape whose fields are all optional: one of another type than it should have is absent.

    What is well formed is decoded at once. Whatever else is read field by field, with damaged texts mended: a field we
    merely like to have must never cost a status we need. Raises Malformed, naming `place`, for anything but an object.
    A field of type `Raw` is for the caller to judge.
    """
    decode = msgspec.json.Decoder(shape).decode
    members = _reader(_MEMBERS, place)
    types = {field.encode_name: (field.name, field.type) for field in msgspec.structs.fields(shape)}  # type: ignore[arg-type]

    def mend(data: bytes | Raw) -> T:
        found: dict[str, object] = {}
        for told, raw in members(data).items():
            name, type_ = types.get(told, ("", None))
            if type_ is Raw:
                found[name] = raw
            elif name:
                with suppress(msgspec.ValidationError):
                    found[name] = msgspec.convert(loose(raw), type_)
        return shape(**found)

    def read(data: bytes | Raw) -> T:
        try:
            return decode(data)
        except (ValueError, RecursionError, OverflowError):  # msgspec's errors are ValueErrors
            return mend(data)

    return read


_body_list: Final = _reader(_LIST, "body")
_body_item: Final = _reader(_RAW, "body")


def json_items(body: bytes) -> Sequence[Raw]:
    """Return the elements of a JSON array, or a lone JSON object as the only element. Raises Malformed for the rest."""
    first = body.lstrip(_BLANK)[:1]
    if first == b"[":
        return _body_list(body)
    if first == b"{":
        return (_body_item(body),)
    raise Malformed("body: neither an object nor an array")


def loose(raw: Raw) -> object:
    """Decode a field of whatever type it has. None for null, and for what cannot be represented."""
    try:
        return _ANY.decode(raw)
    except (ValueError, RecursionError, OverflowError):  # msgspec's errors are ValueErrors
        return _mended(bytes(raw))


def _mended(data: bytes) -> object:
    """Decode once more with bad UTF-8 replaced: a damaged text is still worth reading."""
    try:
        return _ANY.decode(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError, OverflowError):
        return None


def is_present(raw: Raw) -> bool:
    """Tell whether a member is there and not null, without decoding it."""
    return bytes(raw).strip(_BLANK) != b"null"


def count(raw: Raw) -> int:
    """Return the number of elements of what may be an array, without decoding them; 0 if it is not one."""
    try:
        return len(_LIST_OR_NULL.decode(raw) or ())
    except (ValueError, RecursionError, OverflowError):
        return 0


def elements(raw: Raw) -> list[Raw]:
    """Return the elements of what may be an array, none if it is not one."""
    try:
        return _LIST_OR_NULL.decode(raw) or []
    except (ValueError, RecursionError, OverflowError):
        return []


def raw_member(raw: Raw, name: str) -> Raw:
    """Return a member of what may be an object, undecoded; null if it is not, or has no such member."""
    try:
        return _MEMBERS.decode(raw).get(name, ABSENT)
    except (ValueError, RecursionError, OverflowError):
        return ABSENT


def member(value: object, name: str) -> object:
    """Return a member of what may be an object; None if it is not, or has no such member."""
    return value.get(name) if isinstance(value, dict) else None


def is_object(webhook: Webhook) -> bool:
    """Tell whether a request's body is a JSON object by the look of it, whatever its headers say."""
    return webhook.method != "GET" and webhook.body.lstrip(_BLANK)[:1] == b"{"


# Values ---------------------------------------------------------------------------------------------------------------


def word(value: object) -> str | None:
    """Return a text that names something, verbatim; None if it is blank, damaged or longer than any name.

    A NUL or a replacement character is damage: what it replaced is unknown, and two damaged names may look alike.
    """
    if not isinstance(value, str) or len(value) > WORD_MAX or not value or value.isspace():
        return None
    return None if "\0" in value or _REPLACEMENT in value else value


def identifier(value: object) -> str | None:
    """Return a `word`, or an integer of at most 64 bits as decimal digits. Never a float: it has lost digits."""
    if type(value) is int:  # a bool is not an identifier
        return str(value) if value in _INTEGERS else None
    return word(value)


def text(value: object) -> str | None:
    """Return a text for people, cut to TEXT_MAX, NUL replaced (it cannot be stored); None if it is blank."""
    if not isinstance(value, str) or not value or value.isspace():
        return None
    return value[:TEXT_MAX].replace("\0", _REPLACEMENT)


def phone_number(address: str) -> str | None:
    """Return "+digits" for an address that is a phone number, with or without its plus sign; None for any other."""
    digits = address.removeprefix("+")
    return f"+{digits}" if len(digits) in _PHONE_DIGITS and digits.isascii() and digits.isdigit() else None


def required(value: str | None, place: str) -> str:
    """Return the value; raises Malformed, naming `place`, if there is none."""
    if value is None:
        raise Malformed(f"{place} is missing or unusable")
    return value


# Recipients and requests ----------------------------------------------------------------------------------------------


def recipient(address: str | None) -> str | None:
    """Return "+digits" for a phone number, and any other address as it is."""
    return address and (phone_number(address) or address)


def shared_reference(message_id: str, address: str) -> str:
    """Return what names a message to one of the recipients who share its id."""
    return f"{message_id}{RECIPIENT_SEPARATOR}{recipient(address)}"


def own_evidence(whole: bytes | Raw, own: bytes | Raw) -> bytes:
    """Return the evidence about one of several recipients: the whole where it is small, else only their own part.

    A request about a thousand recipients must not be stored a thousand times.
    """
    return bytes(whole if len(bytes(whole)) <= EVIDENCE_BYTES_MAX else own)


def single(content: bytes, read: Callable[[], Observation | None]) -> Parsed:
    """Return what a request about one message says: its observation, or None for what is about something else.

    A request in which something necessary is missing is kept as unreadable.
    """
    try:
        observation = read()
    except Malformed as problem:
        return Parsed(unreadable=(Unreadable(str(problem), content),))
    return Parsed(ignored=1) if observation is None else Parsed(observations=(observation,))


class Batch:
    """Collects what one request says, item by item. One unreadable item never costs its neighbours."""

    __slots__ = ("_room", "alerts", "ignored", "observations", "unreadable")

    def __init__(self) -> None:
        self.observations: list[Observation] = []
        self.unreadable: list[Unreadable] = []
        self.alerts: list[str] = []
        self.ignored = 0
        self._room = ITEMS_MAX

    def each(self, items: Sequence[Raw], read: Callable[[Raw], T]) -> Iterator[T]:
        """Yield what `read` makes of each item; one that it finds Malformed is kept verbatim as unreadable.

        Raises Malformed when the request holds more than ITEMS_MAX items: then nothing is kept but the capture.
        """
        for item in items:
            if not self._room:
                raise Malformed(f"more than {ITEMS_MAX} items")
            self._room -= 1
            try:
                found = read(item)
            except Malformed as problem:
                self.unreadable.append(Unreadable(str(problem), bytes(item)))
            else:
                yield found

    def observe(self, items: Sequence[Raw], read: Callable[[Raw], Observation | None]) -> None:
        """Collect the observation in each item; an item that `read` answers with None is ignored."""
        for found in self.each(items, read):
            if found is None:
                self.ignored += 1
            else:
                self.observations.append(found)

    def parsed(self) -> Parsed:
        return Parsed(
            observations=tuple(self.observations),
            unreadable=tuple(self.unreadable),
            alerts=tuple(self.alerts),
            ignored=self.ignored,
        )

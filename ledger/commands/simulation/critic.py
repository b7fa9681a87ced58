"""Asks the server where messages stand and compares: the message, its history, its listing, and who may see it."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ledger.commands.simulation.model import Message
from ledger.commands.simulation.script import Line
from ledger.commands.simulation.verdict import SOME_TIME, Place, judge
from ledger_client.client import Client
from ledger_client.errors import NotFound, Refused
from ledger_client.transport import Transport


class Critic:
    """Reads messages from the server and lists where they are not as they must be. Thread-safe."""

    def __init__(
        self, transport: Transport, keys: Mapping[tuple[str, str], str], message_ids: Mapping[int, int]
    ) -> None:
        self._transport = transport
        self._keys = keys
        self._message_ids = message_ids

    def differences(self, line: Line) -> list[str]:
        """Compare message, history and listing with the script. Raises Unreachable."""
        message, place = line.message, judge(line)
        key = self._keys[message.account.name, message.channel]
        message_id = self._message_ids.get(message.number)
        wrong: list[str] = []
        if message.provider_message_id is not None:
            listed = self._listed(message, key)
            if len(listed) != 1:
                return [f"listed {len(listed)} times"]
            if message_id not in (None, listed[0]):
                wrong.append("listed under another message_id")
            message_id = listed[0]
        if message_id is None:
            return ["was given no message_id"]
        wrong += self._of_message(message_id, key, place)
        wrong += self._of_history(message_id, key, place)
        return wrong + self._of_strangers(message_id, key)

    def _listed(self, message: Message, key: str) -> list[int]:
        found = self._as(key).messages(provider_message_id=message.provider_message_id or "")
        return [listed.message_id for listed in found if listed.participant == message.participant]

    def _of_message(self, message_id: int, key: str, place: Place) -> list[str]:
        try:
            told = self._as(key).get(message_id)
        except Refused as refused:
            return [f"GET answers {refused.status}"]
        failure = told.failure
        found = msgspec.structs.asdict(told)
        found |= {f"failure.{name}": getattr(failure, name, None) for name in ("code", "text")}
        return [
            f"{field} is {found.get(field)!r}, must be {_shown(must)!r}"
            for field, must in place.fields.items()
            if not _agrees(found.get(field), must)
        ]

    def _of_history(self, message_id: int, key: str, place: Place) -> list[str]:
        try:
            items = list(self._as(key).history(message_id))
        except Refused as refused:
            return [f"GET history answers {refused.status}"]
        found = Counter(
            (item.source or "", (item.provider_status or "").lower(), item.occurred_at, item.error_code)
            for item in items
            if item.kind == "observation"
        )
        registrations = sum(item.kind == "registration" for item in items)
        wrong = [f"history lacks {source} {word}" for source, word, *_ in place.observations - found]
        wrong += [f"history has {source} {word} too often" for source, word, *_ in found - place.observations]
        if registrations != place.registrations:
            wrong.append(f"history has {registrations} registrations, must have {place.registrations}")
        return wrong

    def _of_strangers(self, message_id: int, key: str) -> list[str]:
        """A key of another account or channel must not see the message."""
        stranger = next((other for other in self._keys.values() if other != key), None)
        if stranger is None:
            return []
        try:
            self._as(stranger).get(message_id)
        except NotFound:
            return []
        except Refused as refused:
            return [f"another account's key is answered {refused.status}"]
        return ["another account's key is answered 200"]

    def _as(self, key: str) -> Client:
        return Client(self._transport.url, key, transport=self._transport)


def _agrees(found: Any, must: Any) -> bool:
    if must == SOME_TIME:
        return found is not None
    return bool(found == must)


def _shown(must: Any) -> Any:
    return must.isoformat() if isinstance(must, datetime) else must

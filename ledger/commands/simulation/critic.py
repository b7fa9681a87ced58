"""Asks the server where messages stand and compares: the message, its history, its listing, and who may see it."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from ledger.commands.simulation.client import Client
from ledger.commands.simulation.model import Message
from ledger.commands.simulation.script import Line
from ledger.commands.simulation.verdict import SOME_TIME, Place, judge


class Critic:
    """Reads messages from the server and lists where they are not as they must be. Thread-safe."""

    def __init__(self, client: Client, keys: Mapping[tuple[str, str], str], message_ids: Mapping[int, int]) -> None:
        self._client = client
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
        wrong += self._of_message(f"/v1/messages/{message_id}", key, place)
        wrong += self._of_history(f"/v1/messages/{message_id}/history?limit=200", key, place)
        return wrong + self._of_strangers(f"/v1/messages/{message_id}", key)

    def _listed(self, message: Message, key: str) -> list[int]:
        named = quote(message.provider_message_id or "", safe="")
        _, told = self._get(f"/v1/messages?limit=200&provider_message_id={named}", key)
        items = (told or {}).get("items", ())
        return [item["message_id"] for item in items if item["participant"] == message.participant]

    def _of_message(self, target: str, key: str, place: Place) -> list[str]:
        status, told = self._get(target, key)
        if told is None:
            return [f"GET answers {status}"]
        failure = told.get("failure") or {}
        told |= {f"failure.{name}": failure.get(name) for name in ("code", "text")}
        return [
            f"{field} is {told.get(field)!r}, must be {_shown(must)!r}"
            for field, must in place.fields.items()
            if not _agrees(told.get(field), must)
        ]

    def _of_history(self, target: str, key: str, place: Place) -> list[str]:
        status, told = self._get(target, key)
        if told is None:
            return [f"GET history answers {status}"]
        seen = [item for item in told["items"] if item["kind"] == "observation"]
        found = Counter(
            (item["source"], item["provider_status"].lower(), _instant(item["occurred_at"]), item["error_code"])
            for item in seen
        )
        registrations = sum(item["kind"] == "registration" for item in told["items"])
        wrong = [f"history lacks {source} {word}" for source, word, *_ in place.observations - found]
        wrong += [f"history has {source} {word} too often" for source, word, *_ in found - place.observations]
        if registrations != place.registrations:
            wrong.append(f"history has {registrations} registrations, must have {place.registrations}")
        return wrong

    def _of_strangers(self, target: str, key: str) -> list[str]:
        """A key of another account or channel must not see the message."""
        stranger = next((other for other in self._keys.values() if other != key), None)
        if stranger is None:
            return []
        status, _ = self._get(target, stranger)
        return [] if status == 404 else [f"another account's key is answered {status}"]

    def _get(self, target: str, key: str) -> tuple[int, dict[str, Any] | None]:
        answer = self._client.ask("GET", target, headers={"X-Octopods-Auth": key})
        told: dict[str, Any] = msgspec.json.decode(answer.body)
        return answer.status, told if answer.status == 200 else None


def _agrees(found: Any, must: Any) -> bool:
    if must == SOME_TIME:
        return found is not None
    return _instant(found) == must if isinstance(must, datetime) else bool(found == must)


def _shown(must: Any) -> Any:
    return must.isoformat() if isinstance(must, datetime) else must


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None

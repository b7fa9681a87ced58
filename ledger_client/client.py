"""The client: one API key, one account, one channel."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

import msgspec

from ledger_client.errors import refusal
from ledger_client.shapes import (
    Change,
    Channel,
    Conversation,
    Correction,
    FailureTold,
    Handed,
    Handoff,
    HistoryItem,
    HistoryPage,
    Message,
    Page,
    Registered,
    Registration,
    Update,
)
from ledger_client.streams import Stream
from ledger_client.transport import PATIENCE_SECONDS, Transport

T = TypeVar("T")

#: The longest that one question waits for a change.
WAIT_SECONDS_MAX: Final = 30
_PAGE: Final = 200
_encode: Final = msgspec.json.Encoder().encode


class Client:
    """Thread-safe. Every method raises Unreachable, Stopped and Refused.

    A request without an answer is sent again: each of them may be, without doing anything twice.
    """

    def __init__(
        self, url: str, key: str, *, patience_seconds: float = PATIENCE_SECONDS, transport: Transport | None = None
    ) -> None:
        """`transport` is shared with other clients, and closed by whoever made it."""
        self._owned = Transport(url, patience_seconds=patience_seconds) if transport is None else None
        self._transport = transport or self._owned or Transport(url)
        self._headers = {"X-Octopods-Auth": key}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._owned is not None:
            self._owned.close()

    # Telling ----------------------------------------------------------------------------------------------------------

    def register(
        self,
        channel: Channel,
        *,
        provider_message_id: str | None = None,
        recipient: str | None = None,
        client_reference: str | None = None,
        queued_at: datetime | None = None,
        sent_at: datetime | None = None,
        provider_status: Handed | None = None,
        failure: FailureTold | None = None,
        conversation: Conversation | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Registered:
        """Register a message. With an `idempotency_key` of yours a later call with the same one finds it again."""
        told = Registration(
            channel=channel,
            provider_message_id=provider_message_id,
            recipient=recipient,
            client_reference=client_reference,
            queued_at=queued_at,
            sent_at=sent_at,
            provider_status=provider_status,
            failure=failure,
            conversation=conversation,
            metadata=dict(metadata or {}),
        )
        if idempotency_key is None and provider_message_id is None:
            idempotency_key = uuid4().hex  # with the provider's id, the same registration is recognised by its content
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._ask("POST", "/v1/messages", Registered, told, headers)

    def hand_off(
        self,
        message_id: int,
        provider_message_id: str,
        *,
        sent_at: datetime | None = None,
        provider_status: Handed | None = None,
    ) -> Message:
        """Tell under which id the provider knows the message."""
        told = Handoff(provider_message_id=provider_message_id, sent_at=sent_at, provider_status=provider_status)
        return self._ask("POST", f"/v1/messages/{message_id}/handoff", Message, told)

    def fail(self, message_id: int, text: str, *, code: str | None = None) -> Message:
        """Tell why the message could not be handed to the provider."""
        told = Handoff(failure=FailureTold(text=text, code=code))
        return self._ask("POST", f"/v1/messages/{message_id}/handoff", Message, told)

    def correct(
        self, message_id: int, to: Literal["delivered", "failed"], *, by: str, why: str, relied_on: tuple[int, ...] = ()
    ) -> Message:
        """Decide an open conflict."""
        told = Correction(to=to, by=by, why=why, relied_on=relied_on)
        return self._ask("POST", f"/v1/messages/{message_id}/corrections", Message, told)

    # Reading ----------------------------------------------------------------------------------------------------------

    def get(self, message_id: int) -> Message:
        """Return where a message stands now. Raises NotFound."""
        return self._ask("GET", f"/v1/messages/{message_id}", Message)

    def wait(self, message_id: int, seconds: int = WAIT_SECONDS_MAX) -> Message:
        """Return the message once its outcome is decided, or as it stands after so many seconds, at most 30."""
        seconds = max(0, min(seconds, WAIT_SECONDS_MAX))
        headers = {"Prefer": f"wait={seconds}"}
        return self._ask("GET", f"/v1/messages/{message_id}", Message, headers=headers, seconds=seconds)

    def messages(self, **filters: str) -> Iterator[Message]:
        """Yield messages, newest first, page by page. Filters are those of the API, such as `client_reference`."""
        cursor: str | None = ""
        while cursor is not None:
            told = {**filters, "limit": str(_PAGE), **({"cursor": cursor} if cursor else {})}
            page = self._ask("GET", f"/v1/messages?{urlencode(told)}", Page)
            yield from page.items
            cursor = page.next_cursor

    def history(self, message_id: int, *, as_of: datetime | None = None) -> Iterator[HistoryItem]:
        """Yield everything recorded about a message, or what was on record at a time, in order."""
        cursor: str | None = ""
        while cursor is not None:
            told = {"limit": str(_PAGE), **({"as_of": as_of.isoformat()} if as_of else {})}
            told |= {"cursor": cursor} if cursor else {}
            page = self._ask("GET", f"/v1/messages/{message_id}/history?{urlencode(told)}", HistoryPage)
            yield from page.items
            cursor = page.next_cursor

    # Following --------------------------------------------------------------------------------------------------------

    def follow(self, message_id: int, *, last_id: str | None = None) -> Stream[Update]:
        """Follow a message: where it stands, then every change. `last_id` of an earlier stream goes on after it."""
        return self._stream(f"/v1/messages/{message_id}/events", Update, last_id)

    def tail(self, *, last_id: str | None = None, **filters: str) -> Stream[Change]:
        """Follow every message of the key's account and channel from now on, or after the last id of before."""
        query = f"?{urlencode(filters)}" if filters else ""
        return self._stream(f"/v1/events{query}", Change, last_id)

    def _stream(self, target: str, type_: type[T], last_id: str | None) -> Stream[T]:
        return Stream(self._transport, target, self._headers, partial(msgspec.json.decode, type=type_), last_id)

    def _ask(
        self,
        method: str,
        target: str,
        type_: type[T],
        told: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float = 0.0,
    ) -> T:
        sent = {**self._headers, **(headers or {})}
        body = None
        if told is not None:
            body = _encode(told)
            sent["Content-Type"] = "application/json"
        answer = self._transport.ask(method, target, body, sent, seconds=seconds)
        if not 200 <= answer.status < 300:
            raise refusal(answer.status, answer.body)
        return msgspec.json.decode(answer.body, type=type_)

"""Sends the requests of a play: each when its time has come, as many at once as there are threads."""

import heapq
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from ledger.commands.simulation.model import Call
from ledger_client.shapes import Registered
from ledger_client.transport import Answer, Transport

CONNECTIONS: Final = 16
#: Of a call that could not be sent, because its message was given no id.
UNSENT: Final = Answer(0, b"", 0)


_registered: Final = msgspec.json.Decoder(Registered)


class Stage:
    """Plays once."""

    def __init__(
        self,
        calls: Sequence[Call],
        client: Transport,
        keys: Mapping[tuple[str, str], str],
        *,
        seconds: float,
        on_answer: Callable[[], None],
    ) -> None:
        """Play within so many seconds, if the server keeps up; within 0: as fast as it answers."""
        self._calls = calls
        self._client = client
        self._keys = keys
        self._on_answer = on_answer
        first, last = min(call.at for call in calls), max(call.at for call in calls)
        self._first = first
        self._pace = seconds / (last - first) if last > first else 0.0
        self.answers: dict[int, Answer] = {}  #: by number of call
        self.message_ids: dict[int, int] = {}  #: given to registered messages, by number of message
        #: Guards what follows; notified when a call falls due, and at the end.
        self._changed = threading.Condition()
        self._due = [(call.at, call.number) for call in calls if not call.after]
        heapq.heapify(self._due)
        self._waits_for = {call.number: len(call.after) for call in calls}
        self._frees: dict[int, list[int]] = defaultdict(list)
        for call in calls:
            for number in call.after:
                self._frees[number].append(call.number)
        self._open = len(calls)
        self._trouble: BaseException | None = None
        self._began = 0.0

    def play(self) -> None:
        """Return when every call has its answer. Raises Unreachable, Stopped."""
        self._began = time.monotonic()
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self._client.stop()
            raise
        if self._trouble is not None:
            raise self._trouble

    def _work(self) -> None:
        try:
            while (call := self._next()) is not None:
                self._take(call, self._send(call))
                self._on_answer()
        except BaseException as error:  # raised again by `play`
            with self._changed:
                self._trouble = self._trouble or error
                self._changed.notify_all()
            self._client.stop()

    def _next(self) -> Call | None:
        """Wait for a call that may be sent, and take it; None when there are no more."""
        with self._changed:
            while self._open and self._trouble is None:
                wait = None
                if self._due:
                    at, number = self._due[0]
                    wait = self._began + (at - self._first) * self._pace - time.monotonic()
                    if wait <= 0:
                        heapq.heappop(self._due)
                        return self._calls[number]
                self._changed.wait(wait)
            return None

    def _send(self, call: Call) -> Answer:
        target, headers = call.target, dict(call.headers)
        if "{message_id}" in target:
            message_id = self.message_ids.get(-1 if call.message is None else call.message)
            if message_id is None:
                return UNSENT
            target = target.replace("{message_id}", str(message_id))
        if call.key is not None:
            headers["X-Octopods-Auth"] = self._keys[call.key]
        return self._client.ask("POST", target, call.body, headers)

    def _take(self, call: Call, answer: Answer) -> None:
        """Keep the answer, and let go what waited for it."""
        with self._changed:
            self.answers[call.number] = answer
            if call.message is not None and answer.status == 201:
                self.message_ids[call.message] = _registered.decode(answer.body).message_id
            for number in self._frees[call.number]:
                self._waits_for[number] -= 1
                if not self._waits_for[number]:
                    heapq.heappush(self._due, (self._calls[number].at, number))
                    self._changed.notify()
            self._open -= 1
            if not self._open:
                self._changed.notify_all()

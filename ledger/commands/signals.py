"""SIGTERM and SIGINT, waited for by the main thread."""

import select
import signal
import socket
from typing import Final

_NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Notes the signals that ask a process to end. To be made in the main thread.

    Python runs handlers between two steps of the main thread. One that sets an Event waits for ever if it interrupts
    the main thread's own use of that event, and none runs while the main thread waits for a lock or a thread that it
    went to wait for just after the signal came. What the interpreter writes to a socket at once is always heard.
    """

    def __init__(self) -> None:
        self._heard, self._told = socket.socketpair()
        self._told.setblocking(False)
        signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        for number in _NUMBERS:
            signal.signal(number, lambda _number, _frame: None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for a signal, no longer than so many seconds if given; tell whether any has come so far."""
        return bool(select.select([self._heard], [], [], seconds)[0])

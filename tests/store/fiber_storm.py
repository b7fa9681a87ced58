"""Fibers by the hundred, on an event loop whose C code has lists on the stack that they are put back over.

Run as a program: it ends with 0, or the interpreter dies. Each fiber waits for a socket of its own while many sockets
become ready at once, at another depth of the stack than it was started from.
"""

import asyncio
import random
import socket
import sys
from functools import reduce

import uvloop

from ledger.store.fiber import Fiber, current, spawn

FIBERS, ROUNDS, DEEP = 200, 60, 40


def deep(levels: int, wait: "Waiting") -> None:
    """Wait with so many calls through C below."""
    if not levels:
        wait()
    else:
        reduce(lambda _, level: deep(level, wait), [levels - 1], None)


class Waiting:
    def __init__(self, mine: socket.socket) -> None:
        self._mine = mine

    def __call__(self) -> None:
        fiber = current()
        assert isinstance(fiber, Fiber)
        for _ in range(ROUNDS):
            if fiber.ready(self._mine.fileno(), 1, 30).value:
                self._mine.recv(1)
            if random.random() < 0.1:
                fiber.sleep(random.random() / 100)


async def main() -> None:
    loop = asyncio.get_running_loop()
    pairs = [socket.socketpair() for _ in range(FIBERS)]
    ended = [loop.create_future() for _ in pairs]
    for number, (mine, _) in enumerate(pairs):

        def run(number: int = number, mine: socket.socket = mine) -> None:
            deep(number % DEEP, Waiting(mine))
            ended[number].set_result(None)

        spawn(loop, run)
    for _ in range(ROUNDS):
        for _, theirs in random.sample(pairs, len(pairs)):
            theirs.send(b"x")
        await asyncio.sleep(0)
    await asyncio.gather(*ended)
    for pair in pairs:
        for end in pair:
            end.close()


if __name__ == "__main__":
    random.seed(int(sys.argv[1]))
    uvloop.run(main())

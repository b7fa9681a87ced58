"""Runs a peer on the web server that the product uses, with the product's settings for it.

    python -m scripts.bench_peers.serve stock --workers 2

The port is chosen by the system and printed when the peer answers. SIGTERM ends all workers.
"""

import argparse
import asyncio
import importlib
import os
import signal
import socket
from types import FrameType
from typing import Any

import uvicorn

from ledger.main import tune


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=["stock", "upsert", "select_one", "hello"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pool", type=int, default=0, help="database connections a worker (default: as tuned)")
    told = parser.parse_args()
    module: Any = importlib.import_module(f"scripts.bench_peers.{told.peer}")
    database_url = os.environ["BENCH_DATABASE_URL"]
    module.prepare(database_url)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    ready = f"{told.peer} is ready on http://127.0.0.1:{listener.getsockname()[1]}"
    if told.workers == 1:
        _serve(module, database_url, told.pool, listener, ready)
        return
    children = []
    for number in range(told.workers):
        child = os.fork()
        if child == 0:
            _serve(module, database_url, told.pool, listener, ready if number == told.workers - 1 else None)
            os._exit(0)
        children.append(child)

    def stop(_number: int, _frame: FrameType | None) -> None:
        for child in children:
            os.kill(child, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    for child in children:
        os.waitpid(child, 0)


def _serve(module: Any, database_url: str, pool: int, listener: socket.socket, ready: str | None) -> None:
    tune()
    options = {"pool_size": pool} if pool else {}
    config = uvicorn.Config(
        module.application(database_url, **options),
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=2048,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if ready:
                print(ready, flush=True)

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()

"""The product with a writer that answers at once and stores nothing: what verifying and decoding alone allow.

python -m scripts.bench_peers.no_storage serve --port 0
"""

import sys
from typing import Any

from ledger import main
from ledger.__main__ import main as run
from ledger.ingest.writer import Deliver, Done, Job


class ForgetfulWriter:
    """Stands in for `ledger.ingest.writer.Writer`."""

    depth = 0
    is_full = False

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver

    def start(self, _loop: object = None) -> None:
        """Nothing to start."""

    def submit(self, job: Job) -> None:
        job.done = Done((), (), 0)
        self._deliver([job])

    def close(self) -> None:
        """Nothing to end."""


def _writer(_parts: main.Parts, deliver: Deliver) -> Any:
    return ForgetfulWriter(deliver)


if __name__ == "__main__":
    main.Parts.writer = _writer  # type: ignore[method-assign]
    sys.exit(run(sys.argv[1:]))

"""`status-ledger` in a world that a test makes: with a clock of its own for webhooks, and with no network.

The instant is read from the file that `CLOCK_FILE` names, anew for every request, so that recorded requests can be
delivered at the time when their signatures were good. What the service opens is written to a file beside it, and not
opened.
"""

import os
import sys
from datetime import datetime
from functools import partial
from pathlib import Path

from ledger import __main__, main
from ledger.http.opening import Opener
from ledger.http.webhooks import Webhooks

CLOCK_FILE = "CLOCK_FILE"


def now() -> datetime:
    return datetime.fromisoformat(Path(os.environ[CLOCK_FILE]).read_text("utf-8"))


def fetch(url: str) -> bytes:
    with Path(os.environ[CLOCK_FILE]).with_suffix(".opened").open("a", encoding="utf-8") as file:
        file.write(f"{url}\n")
    return b""


if __name__ == "__main__":
    # Clock and network are all that is replaced.
    main.Webhooks = partial(Webhooks, now=now)  # type: ignore[misc, assignment]
    main.Opener = partial(Opener, fetch)  # type: ignore[misc, assignment]
    sys.exit(__main__.main())

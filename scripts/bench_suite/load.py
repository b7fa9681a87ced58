"""The load generator: wrk, one thread, requests from a file through a Lua script."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from scripts.bench_suite.callbacks import Callbacks, offset_of

_SCRIPTS: Final = Path(__file__).parent / "wrk"
_REPORT: Final = "BENCH "


class LoadFailed(Exception):
    """The load generator is absent, or what it measured does not count."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What wrk saw."""

    requests: int
    microseconds: int
    not_2xx: int
    failed: int  #: connections refused or broken, and requests without an answer
    p50_us: int
    p90_us: int
    p99_us: int
    max_us: int
    exhausted: int = 0  #: times the file was at its end
    accepted: int = 0  #: 200 (paced load only)
    refused: int = 0  #: 503 (paced load only)
    unannounced: int = 0  #: 503 without Retry-After
    others: int = 0

    @property
    def seconds(self) -> float:
        return self.microseconds / 1e6

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def p50_ms(self) -> float:
        return self.p50_us / 1_000

    @property
    def p99_ms(self) -> float:
        return self.p99_us / 1_000


def require_wrk() -> None:
    if shutil.which("wrk") is None:
        raise LoadFailed("wrk is not installed: apt-get install wrk (Debian, Ubuntu), brew install wrk (macOS)")


class Sender:
    """Sends the callbacks of a file to one server: each call goes on where the last one can have stopped at most."""

    def __init__(self, url: str, callbacks: Callbacks) -> None:
        self._url = url
        self._callbacks = callbacks
        self.acknowledged = 0  #: requests answered 2xx so far
        self._first = 0  #: request to begin with

    def send(self, connections: int, seconds: float, *, rate: float = 0, strict: bool = True) -> Sample:
        """Send for so many seconds, as fast as it goes or at so many requests a second.

        Raises LoadFailed if the file is too short, and, when `strict`, if anything but 2xx came back.
        """
        offset = str(offset_of(self._callbacks, self._first))
        script = _SCRIPTS / "callbacks.lua"
        sample = _wrk(script, self._url, connections, seconds, [str(self._callbacks.file), offset, str(rate)])
        # What was on its way at the end, and one that wrk takes to look at the script.
        self._first += sample.requests + connections + 1
        self.acknowledged += sample.requests - sample.not_2xx
        return require_clean(sample, strict=strict)


def get(url: str, paths: Path, connections: int, seconds: float, header: str = "") -> Sample:
    """Read the paths listed in a file, one a line, in random order."""
    return require_clean(_wrk(_SCRIPTS / "reads.lua", url, connections, seconds, [str(paths), header]))


def require_clean(sample: Sample, *, strict: bool = True) -> Sample:
    if sample.exhausted:
        raise LoadFailed("the file of requests was too short for this machine")
    if strict and (sample.not_2xx or sample.failed):
        raise LoadFailed(f"{sample.not_2xx} answers were not 2xx and {sample.failed} requests failed")
    return sample


def _wrk(script: Path, url: str, connections: int, seconds: float, arguments: list[str]) -> Sample:
    # wrk takes whole seconds only.
    whole = max(1, round(seconds))
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "8s", "-s", str(script), url, "--", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=whole + 60,
    )
    reports = [line for line in done.stdout.splitlines() if line.startswith(_REPORT)]
    if done.returncode != 0 or not reports:
        raise LoadFailed(f"wrk failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return msgspec.json.decode(reports[-1].removeprefix(_REPORT), type=Sample)

"""What was measured on: everything that another run has to be compared with."""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import psutil

_PACKAGES: Final = (
    "eventsourcing",
    "psycopg",
    "msgspec",
    "starlette",
    "uvicorn",
    "httptools",
    "uvloop",
    "cryptography",
    "umadb",
)


def describe(directory: Path) -> dict[str, str]:
    """Return the machine in words; `directory` lies on the disk that the database is on."""
    return {
        "cores": f"{len(os.sched_getaffinity(0))} ({_processor()})",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "disk": f"{_syncs_a_second(directory):,.0f} fdatasync of 8 kB a second",
        "busy before": f"{psutil.cpu_percent(1.5):.0f} % of all cores, load {os.getloadavg()[0]:.1f}",
        "python": sys.version.split()[0],
        "packages": ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name))),
        "load generator": _wrk(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _syncs_a_second(directory: Path, seconds: float = 0.5) -> float:
    path, page, count = directory / "sync", os.urandom(8192), 0
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, page, 0)
        os.fsync(descriptor)
        began = time.perf_counter()
        while (took := time.perf_counter() - began) < seconds:
            os.pwrite(descriptor, page, 0)
            os.fdatasync(descriptor)
            count += 1
        return count / took
    finally:
        os.close(descriptor)
        path.unlink()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _wrk() -> str:
    told = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False).stdout
    return " ".join(told.split()[:2]) + ", 1 thread, on the same cores"

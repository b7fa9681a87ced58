"""Becomes the embedded server's main process. Run as a program, never imported for its effects.

A separate program because what it does must happen between fork and exec, where a process that has threads may run no
Python of its own. Usage: `python -I -S postmaster.py SUPERVISOR_PID UID GID COMMAND…`; a UID of -1 keeps the user.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    supervisor, uid, gid, *command = arguments
    if int(uid) >= 0:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    # After the change of user, which would clear it. The kernel sends it when the supervising *thread* ends.
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != int(supervisor):
        sys.exit("the supervisor ended before PostgreSQL could start")
    os.umask(0o077)
    os.execv(command[0], command)  # noqa: S606  # no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])

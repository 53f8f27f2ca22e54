"""A process that another `lidar` started ends with it, whatever ended that one."""

import ctypes
import os
import signal
import sys
import threading
import time

import psutil

PARENT = "LIDAR_PARENT"
"""Environment variable: the process that started this one."""


def end_with_parent() -> None:
    """Makes this process end when the `lidar` that started it ends, if one did; those that it starts will do the same.

    On Linux the kernel ends it at once; on other systems a thread checks every second whether the parent still runs.
    """
    parent = int(os.environ.get(PARENT, 0))
    os.environ[PARENT] = str(os.getpid())
    if parent in (0, os.getpid()):
        return
    if os.getppid() == parent:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    elif not alive(parent):
        os._exit(1)


def alive(process: int) -> bool:
    """Whether a process still runs."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _watch(parent: int) -> None:
    while os.getppid() == parent and alive(parent):
        time.sleep(1)
    os._exit(1)

"""Files that are written whole or not at all, and paths and names as users give them."""

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock

DAY = 24 * 3600
TEMPORARY, LOCK = ".lidar-tmp", ".lidar-lock"


def expand(path: str | Path) -> Path:
    """A path as a user gives it: ~ is the home folder."""
    return Path(path).expanduser()


def check_name(what: str, name: str) -> str:
    """The name, if it can be that of one file or folder. Raises ValueError otherwise."""
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", name) or len(name.encode()) > 200:
        raise ValueError(
            f"{what} names a folder, so that it may be neither empty, '.' nor '..', nor hold '/', '\\' or line breaks, "
            f"nor be longer than 200 bytes, got {name[:220]!r}"
        )
    return name


def write_atomically(path: Path, data: bytes) -> None:
    """Writes to a temporary name, then renames. Raises OSError naming the path; nothing is left behind.

    What a killed process leaves is removed by `sweep`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error


def sweep(folder: Path) -> None:
    """Removes what killed processes left in a folder: temporary files, and locks that nobody holds."""
    for path in folder.glob(f".*{TEMPORARY}"):
        if _abandoned(path):
            path.unlink(missing_ok=True)
    for path in folder.glob(f".*{LOCK}"):
        with suppress(TimeoutError), _held(path, timeout=0):
            pass


def _abandoned(temporary: Path) -> bool:
    """Whether its process is gone. One of another machine cannot be asked for: a day must have passed."""
    begin, _, process = temporary.name.removesuffix(TEMPORARY).rpartition(".")
    if begin.endswith(f".{platform.node()}") and process.isdigit():
        return not psutil.pid_exists(int(process))
    with suppress(FileNotFoundError):
        return time.time() - temporary.stat().st_mtime > DAY
    return False


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Holds off other processes that want to write a path; a killed process lets go, and no lock stays behind.

    Raises:
        TimeoutError: if another process holds it for longer than the timeout in seconds; -1 waits for it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _held(path.with_name(f".{path.name}{LOCK}"), timeout):
        yield


@contextmanager
def _held(lock: Path, timeout: float) -> Iterator[None]:
    with FileLock(lock, timeout=timeout):
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()

"""Files that are written whole or not at all, and the paths and names that users give."""

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
    """A path that a user gave, in which ~ stands for the home folder."""
    return Path(path).expanduser()


def check_name(what: str, name: str) -> str:
    """Returns the name if a file or folder can have it, and raises ValueError otherwise."""
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f]", name) or len(name.encode()) > 200:
        raise ValueError(
            f"{what} names a folder, so that it may be neither empty, '.' nor '..', nor hold '/', '\\' or line breaks, "
            f"nor be longer than 200 bytes, got {name[:220]!r}"
        )
    return name


def check_folder(folder: Path) -> Path:
    """Returns a folder that will be written into, and raises ValueError if a file is in its way or it is read-only."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.exists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        why = "may not be written into" if nearest.is_dir() else "is a file"
        raise ValueError(f"cannot write into the folder {folder}: {nearest} {why}; give another folder as out")
    return folder


def write_atomically(path: Path, data: bytes) -> None:
    """Writes under a temporary name, then renames. If that fails, nothing is left behind and OSError names the path.

    The temporary file that a killed process leaves is removed by `sweep`.
    """
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error


def sweep(folder: Path) -> None:
    """Removes what killed processes left in a folder: temporary files, and locks that no process holds."""
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
    """Keeps other processes from writing a path meanwhile. A process that is killed gives up its lock.

    Raises:
        TimeoutError: if another process holds the lock for longer than `timeout` seconds; -1 waits without an end.
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

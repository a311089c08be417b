"""Writes that survive power loss. Standard library only."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from stoker.recovery.checkpoint.manifest import FileFacts

Piece = bytes | memoryview


def sync_descriptor(descriptor: int) -> None:
    """Put the file's bytes on the disk itself. On macOS fsync stops at the drive's cache, F_FULLFSYNC does not; not
    all file systems know it.
    """
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
        except OSError:
            pass
        else:
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Put a file that something else has written on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, pieces: Iterable[Piece], *, before_sync: Callable[[], None] = lambda: None) -> FileFacts:
    """Write a new file piece by piece and sync it; its size and hash are taken from the same pass over the bytes."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        file.flush()
        before_sync()
        sync_descriptor(file.fileno())
    return FileFacts(size, digest.hexdigest())


def replace_atomically(path: Path, data: bytes) -> None:
    """A small file that is at any moment the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    write_durably(temporary, [data])
    temporary.replace(path)
    sync_folder(path.parent)

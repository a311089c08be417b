"""What a path in a job file means: absolute, from the home folder, relative to the job's folder, or a hub's id."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


class PlaceError(ValueError):
    """A path that cannot be resolved; the message says why and what to write instead."""


def is_hub_id(text: str) -> bool:
    """Whether the text has the form of a Hugging Face id, `org/name`; a relative path may have it too."""
    return _HUB_ID.fullmatch(text) is not None


def is_local(value: str) -> bool:
    """Whether a resolved `model` or `data` is a path of this machine (else it is an id of the hub)."""
    return value.startswith("/")


@dataclass(frozen=True, slots=True)
class Places:
    """Where paths of one job start.

    Attributes:
        base_dir: for relative paths; None = a file dropped into the inbox, which has no folder of its own.
        home: for `~`; None = `~` is refused.
        exists: asks the disk.
    """

    base_dir: Path | None
    home: Path | None
    exists: Callable[[str], bool]

    def absolute(self, text: str) -> str:
        """Return the absolute path.

        Raises:
            PlaceError: it is relative and there is no folder to start from, or it begins with `~user`.
        """
        if text == "~" or text.startswith("~/"):
            if self.home is None:
                raise PlaceError("~ means nothing here: write the full path")
            return str(self.home / text[2:])
        if text.startswith("~"):
            raise PlaceError(f"{text.split('/', 1)[0]} is not resolved: write the full path")
        if text.startswith("/"):
            return str(Path(text))
        if self.base_dir is None:
            raise PlaceError(
                f'"{_short(text)}" is a relative path, and a dropped file does not say where it starts:'
                " use `stoker submit FILE`, or write `stoker: {base_dir: /the/folder}`, or give the full path"
            )
        return str(self.base_dir / text)

    def folder_or_hub_id(self, text: str) -> str:
        """Return an absolute path, or the text itself when it is an id of the hub.

        `org/name` is an id unless the job's folder holds that path, or its first part: then the rest is missing.
        """
        if is_hub_id(text):
            if self.base_dir is None:
                return text
            first = text.split("/", 1)[0]
            if not self.exists(str(self.base_dir / text)) and not self.exists(str(self.base_dir / first)):
                return text
        return self.absolute(text)

    def program(self, text: str) -> str:
        """Return argv[0]: a bare name is left to PATH."""
        return self.absolute(text) if "/" in text or text.startswith("~") else text


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."

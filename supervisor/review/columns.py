"""Tables of runs as plain text: columns that say nothing are left out, ten thousand rows take milliseconds.

Not rich: its tables take 0.4 ms a row, and importing it is a quarter of what `stoker status` may take.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.supervisor.review.format import DASH, cells, shorten

_SGR = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
GAP = "  "


def paint(text: str, style: str, on: bool) -> str:
    """Return `text` in a colour when colours are on."""
    return f"\x1b[{_SGR[style]}m{text}\x1b[0m" if on and style in _SGR and text else text


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table of runs.

    Attributes:
        title: the heading.
        cell: text of a row's cell.
        default: text that says nothing, as the empty one and the dash do; a column with nothing else is hidden.
        right: numbers stand on the right.
        style: colour of a row's cell.
        shrink: in a narrow terminal it may be shortened to this width; 0 = never.
        drop: where shortening is not enough, columns go in falling order of this number; 0 = stays.
    """

    title: str
    cell: Callable[[Mapping[str, Any]], str]
    default: str = ""
    right: bool = False
    style: Callable[[Mapping[str, Any]], str] = lambda _row: ""
    shrink: int = 0
    drop: int = 0


def table(
    columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, width: int | None, colour: bool
) -> list[str]:
    """Return heading and rows as lines of at most `width` columns (None = as wide as the values)."""
    texts = [(column, [column.cell(row) for row in rows]) for column in columns]
    kept = [
        (column, cells_) for column, cells_ in texts if any(text not in {"", DASH, column.default} for text in cells_)
    ]
    if width is not None:
        kept = _dropped(kept, width)
    sizes = [max(cells(column.title), *(cells(text) for text in values)) for column, values in kept]
    if width is not None:
        sizes = _shrunk([column for column, _ in kept], sizes, width)
    head = GAP.join(_pad(column.title, size, column.right) for (column, _), size in zip(kept, sizes, strict=True))
    lines = [paint(head.rstrip(), "bold", colour)]
    for number, row in enumerate(rows):
        parts = (
            paint(_pad(shorten(values[number], size), size, column.right), column.style(row), colour)
            for (column, values), size in zip(kept, sizes, strict=True)
        )
        lines.append(GAP.join(parts).rstrip())
    return lines


def _pad(text: str, size: int, right: bool) -> str:
    space = " " * (size - cells(text))
    return space + text if right else text + space


def _least(column: Column, values: Sequence[str]) -> int:
    """The narrowest that a column may become."""
    size = max(cells(column.title), *(cells(text) for text in values))
    return min(size, max(column.shrink, cells(column.title))) if column.shrink else size


def _dropped(kept: list[tuple[Column, list[str]]], width: int) -> list[tuple[Column, list[str]]]:
    """Leave out columns until the rest fits when shortened."""
    for column, _ in sorted(kept, key=lambda item: -item[0].drop):
        if not column.drop or sum(_least(*item) for item in kept) + len(GAP) * (len(kept) - 1) <= width:
            break
        kept = [item for item in kept if item[0] is not column]
    return kept


def _shrunk(columns: Sequence[Column], sizes: list[int], width: int) -> list[int]:
    """Shorten the widest columns that may be shortened until the table fits."""
    sizes = list(sizes)
    excess = sum(sizes) + len(GAP) * (len(sizes) - 1) - width
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        column = columns[index]
        if excess <= 0 or not column.shrink:
            continue
        least = min(sizes[index], max(column.shrink, cells(column.title)))
        taken = min(excess, sizes[index] - least)
        sizes[index] -= taken
        excess -= taken
    return sizes

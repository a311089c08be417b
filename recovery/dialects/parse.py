"""One line to what it says, in whatever dialect it is written."""

from stoker.recovery.dialects import classic, common, generic, rich
from stoker.recovery.dialects.events import Event
from stoker.recovery.dialects.lines import Line, read_lines
from stoker.recovery.evidence import Report


def parse_line(line: Line) -> Report | Event | None:
    """Return the report or event of an mlx-lm line (any version) or of our own trainer; None for anything else."""
    return classic.parse(line) or rich.parse(line) or common.parse(line)


def parse_log(text: str) -> tuple[tuple[Report, ...], tuple[Event, ...]]:
    """Return every report and event of a log; where there is no mlx-lm report, those of a foreign trainer."""
    reports: list[Report] = []
    foreign: list[Report] = []
    events: list[Event] = []
    for line in read_lines(text):
        said = parse_line(line)
        if isinstance(said, Report):
            reports.append(said)
        elif said is not None:
            events.append(said)
        elif not reports and (report := generic.parse(line, len(foreign))):
            foreign.append(report)
    return tuple(reports or foreign), tuple(events)

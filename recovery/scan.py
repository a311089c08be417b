"""One pass over a log: reports, events, and what each rule saw where."""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.recovery.causes import CAUSES
from stoker.recovery.dialects import generic
from stoker.recovery.dialects.events import PHASE_AFTER, Event, Phase
from stoker.recovery.dialects.lines import Line, read_lines
from stoker.recovery.dialects.parse import parse_line
from stoker.recovery.evidence import Evidence, Report
from stoker.recovery.rules.load import RuleSet
from stoker.recovery.rules.rule import Rule, fits
from stoker.recovery.tracebacks import Raised, Tracebacks

_BAR = re.compile(r"it/s|s/it|^\s*\d+%\|")
_REMEMBERED = 60  # lines that a rule's `before` can look back to
_PER_RULE = 5  # hits of one rule kept between two reports
_REPEATED = 2000  # different lines remembered, so that equal ones are looked at once
_MAX_TEXT = 400  # characters of a finding


@dataclass(slots=True)
class Hit:
    """A rule that saw something.

    Attributes:
        order: position among all pieces of the log; two pieces may stand on one line.
        cause: the rule's, or the captured one.
        weak: gives way to hits that are not.
        print: what makes it the same trouble as another time, for the fingerprint.
    """

    rule: Rule
    line: int
    order: int
    text: str
    cause: str
    groups: Mapping[str, str]
    weak: bool
    simulated: bool
    print: str


@dataclass(slots=True)
class Scan:
    """What a log holds."""

    reports: list[Report] = field(default_factory=list)
    foreign: list[Report] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    last_report: int = -1  # order of the last report
    last_milestone: int = -1  # order of the last loading, starting, saving line
    last_event: Event | None = None
    iters: int | None = None
    started: bool = False
    final_saved: bool = False
    bar_full: bool = False
    tested: bool = False
    phase: Phase = "start"
    simulated: set[str] = field(default_factory=set)
    pieces: int = 0


def scan(evidence: Evidence, rules: RuleSet, exit_code: int | None, signal: str | None) -> Scan:
    """Read the log of the evidence once."""
    reader = _Reader(rules, exit_code, signal)
    for order, line in enumerate(read_lines(evidence.log, evidence.skipped)):
        reader.take(order, line)
    return reader.seen


class _Reader:
    def __init__(self, rules: RuleSet, exit_code: int | None, signal: str | None) -> None:
        self._rules = rules
        self._line_rules = [r for r in rules.of_lines if r.status_fits(exit_code, signal)]
        self._exception_rules = [r for r in rules.of_exceptions if r.status_fits(exit_code, signal)]
        self._tracebacks = Tracebacks()
        self._recent: deque[str] = deque(maxlen=_REMEMBERED)
        self._counts: dict[str, int] = {}
        self._looked_at: set[str] = set()
        self.seen = Scan()

    def take(self, order: int, line: Line) -> None:
        self.seen.pieces = order + 1
        said = parse_line(line)
        if said is not None:
            self._tracebacks.stop()
        if isinstance(said, Report):
            self._report(order, said)
        elif said is not None:
            self._event(order, said)
        elif not _BAR.search(line.text):
            self._text(order, line)

    def _report(self, order: int, report: Report) -> None:
        self.seen.reports.append(report)
        self.seen.last_report = order
        self.seen.phase = "train"
        self._counts.clear()
        self._looked_at.clear()

    def _event(self, order: int, event: Event) -> None:
        seen = self.seen
        if event.kind == "drill":
            seen.simulated.add(event.text)
        if event.kind == "warning":
            return
        if event.kind == "progress":
            seen.bar_full = event.of is not None and event.value == event.of
            seen.iters = event.of or seen.iters
            return
        seen.last_event = event
        seen.last_milestone = order
        if event.kind in {"started", "train"} and event.value:
            seen.iters = int(event.value)
        seen.started = seen.started or event.kind == "started"
        seen.final_saved = event.kind == "final_saved" or (seen.final_saved and event.kind != "started")
        seen.tested = seen.tested or event.kind == "test"
        seen.phase = PHASE_AFTER.get(event.kind, seen.phase)

    def _text(self, order: int, line: Line) -> None:
        talks = self._rules.interests(line.text)
        if talks and not self._tracebacks.active and self._noise(line.text):
            return
        if raised := self._tracebacks.feed(line):
            if not raised.survived:
                self._exception(order, raised)
        elif self._foreign_report(order, line):
            return
        if self._tracebacks.active:
            return
        if talks and (raised is None or not raised.survived):
            self._line(order, line, raised)
        self._recent.append(line.text)

    def _foreign_report(self, order: int, line: Line) -> bool:
        if self._tracebacks.active or self.seen.reports:
            return False
        report = generic.parse(line, len(self.seen.foreign))
        if report is None or self._noise(line.text):
            return False
        self.seen.foreign.append(report)
        self.seen.last_report = order
        return True

    def _noise(self, text: str) -> bool:
        return any(rule.finds(text) for rule in self._rules.noise)

    def _line(self, order: int, line: Line, raised: Raised | None) -> None:
        if line.text in self._looked_at:  # ten thousand equal lines of a dying ring say no more than the first
            return
        if len(self._looked_at) < _REPEATED:
            self._looked_at.add(line.text)
        for rule in self._line_rules:
            found = rule.finds(line.text)
            if found and self._fits_context(rule):
                where = f" ({raised.frame.place})" if raised and raised.frame else ""
                self._add(rule, order, line.number, line.text + where, found, found.group(0) + _functions(raised))

    def _exception(self, order: int, raised: Raised) -> None:
        if raised.caused_by_previous:
            self._demote_previous()
        frame = raised.frame
        for rule in self._exception_rules:
            found = rule.finds(raised.head)
            if found is None:
                continue
            if rule.frame and not any(fits(rule.frame, str(f)) for f in raised.frames):
                continue
            if rule.last_frame and not (frame and fits(rule.last_frame, str(frame))):
                continue
            if self._fits_context(rule):
                text = raised.head + (f" ({frame.place})" if frame else "")
                self._add(rule, order, raised.line, text, found, raised.head + _functions(raised))

    def _demote_previous(self) -> None:
        """`raise X from Y`: X says it better, so what Y matched gives way."""
        if self.seen.hits:
            last = self.seen.hits[-1].order
            for hit in self.seen.hits:
                hit.weak = hit.weak or hit.order == last

    def _fits_context(self, rule: Rule) -> bool:
        if rule.phase and self.seen.phase not in rule.phase:
            return False
        return not rule.before or any(fits(rule.before, text) for text in self._recent)

    def _add(self, rule: Rule, order: int, number: int, text: str, found: re.Match[str], print_: str) -> None:
        groups = {name: value for name, value in found.groupdict().items() if value is not None}
        cause = groups.get("cause", "") if rule.cause == "captured" else rule.cause
        count = self._counts.get(rule.id, 0)
        if cause not in CAUSES or count >= _PER_RULE:
            return
        self._counts[rule.id] = count + 1
        simulated = cause in self.seen.simulated or (cause == "nan_loss" and "nan" in self.seen.simulated)
        visible = text.strip()[:_MAX_TEXT]
        self.seen.hits.append(Hit(rule, number, order, visible, cause, groups, rule.fallback, simulated, print_))


def _functions(raised: Raised | None) -> str:
    """The functions that tell one exception from another: the innermost, and the innermost of the training library."""
    if raised is None or raised.frame is None:
        return ""
    return f" {raised.frames[-1].function} {raised.frame.function}"

"""Evidence to diagnosis: what the rules, the numbers and the exit status say, weighed in one fixed order.

The order, first one that speaks decides:
 1. the fault that one of the trainer's own guards wrote down
 2. a train loss that is not finite (everything after it is worthless, whatever killed the process later)
 3. success that was judged by evidence, or that the log shows together with exit code 0
 4. the first root error after the last report (what a live trainer printed after an error shows that it survived it)
 5. a stop that Stoker itself asked for
 6. root errors before the last report when others only followed from them; consequences of errors elsewhere;
    errors that only a general rule knows
 7. what happened to the machine
 8. what a shell or the system confirmed, the exit status
 9. the loss: frozen, diverged, spiked; the speed
10. an unfinished log of a process that is still there: a hang
"""

from collections.abc import Iterator
from dataclasses import dataclass

from stoker.recovery import series
from stoker.recovery.evidence import Evidence, Report, ending
from stoker.recovery.fingerprint import fingerprint
from stoker.recovery.rules.load import RuleSet, load_rules
from stoker.recovery.rules.rule import Rule
from stoker.recovery.scan import Hit, Scan, scan

_METRICS = "metrics.jsonl"
_EXIT = "exit status"
_WITH_ONSET = {"nan_loss", "divergence", "loss_spike", "silent_gpu_failure"}
_SHOWN = 20  # findings in a diagnosis


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that matched, and where.

    Attributes:
        rule: its id; `series.*`, `host.*`, `trainer.*` and `ending.*` look at other things than text.
        cause: what it speaks for.
        role: root | cascade | confirmation | teardown.
        file, line: line is 1-based; 0 = the finding is not a line.
        text: the line; for an exception also the innermost frame of the training library.
        simulated: a drill pretended it.
    """

    rule: str
    cause: str
    role: str
    file: str
    line: int
    text: str
    simulated: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why an attempt ended (or that nothing is wrong).

    Attributes:
        cause: from the closed list of causes.
        confidence: 0 to 1.
        findings: the deciding one first, then the others in log order.
        retryable: `yes`, `no`, or `adjusted` = with another configuration or checkpoint.
        advice: what to do about it.
        onset: iteration of the first bad report, for causes that have one.
        fingerprint: equal for the same trouble at another time; empty for healthy.
        simulated: a drill pretended it.
    """

    cause: str
    confidence: float
    findings: tuple[Finding, ...]
    retryable: str
    advice: str
    onset: int | None
    fingerprint: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A cause with its grounds, before advice is added."""

    cause: str
    confidence: float
    finding: Finding | None = None
    hit: Hit | None = None
    rule: Rule | None = None
    onset: int | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """Everything a step of the order may look at."""

    evidence: Evidence
    rules: RuleSet
    seen: Scan
    reports: tuple[Report, ...]
    exit_code: int | None
    signal: str | None

    @property
    def failed(self) -> bool:
        """The process is known to have ended badly."""
        return self.signal is not None or self.exit_code not in {0, None}

    @property
    def last_iteration(self) -> int:
        return max((r.iteration for r in self.reports), default=0)

    @property
    def iters(self) -> int | None:
        return self.evidence.iters or self.seen.iters

    @property
    def complete(self) -> bool:
        """The log shows the end of the training: final weights saved, the bar full, or the last iteration reported."""
        reached = self.iters is not None and self.last_iteration >= self.iters
        return self.seen.final_saved or self.seen.bar_full or self.seen.tested or reached

    @property
    def alive_until(self) -> int:
        """Position of the last sign of life. Of a failed process only reports count: it may flush older lines at its end."""
        seen = self.seen
        return seen.last_report if self.failed else max(seen.last_report, seen.last_milestone)

    def hits(self, role: str, *, after: int = -1, before: int | None = None) -> list[Hit]:
        """Return what rules of a role saw, specific ones before fallbacks, each in log order."""
        found = [h for h in self.seen.hits if h.rule.role == role and h.order > after]
        if before is not None:
            found = [h for h in found if h.order < before]
        own = self.rules.own_ids

        def rank(hit: Hit) -> tuple[int, bool, float]:
            # Specific ones: the first error is the root. General ones: the last exception is the one that ended it.
            return (-hit.order if hit.weak else hit.order, hit.rule.id not in own, -hit.rule.confidence)

        return sorted([h for h in found if not h.weak] or found, key=rank)


def diagnose(evidence: Evidence, rules: RuleSet | None = None) -> Diagnosis:
    """Return why the attempt ended. Pure: the same evidence gives the same diagnosis."""
    rules = rules or load_rules()
    exit_code, signal = ending(evidence.exit_code, evidence.signal)
    seen = scan(evidence, rules, exit_code, signal)
    reports = series.current_run(evidence.reports or seen.reports or seen.foreign)
    case = _Case(evidence, rules, seen, reports, exit_code, signal)
    verdict = next(v for step in _ORDER for v in step(case))
    return _finish(case, verdict)


def _fault(case: _Case) -> Iterator[_Verdict]:
    fault = case.evidence.fault
    if fault is not None and fault.cause in case.rules.causes:
        finding = Finding("trainer.fault", fault.cause, "root", _METRICS, 0, fault.what, fault.simulated)
        yield _Verdict(fault.cause, 0.98, finding, onset=fault.iteration or None)  # 0: no iteration was at fault


def _not_finite(case: _Case) -> Iterator[_Verdict]:
    trouble = series.nonfinite(case.reports)
    if trouble and case.evidence.success is not True:
        yield _by_series(case, trouble, "nan_loss", 0.95)


def _succeeded(case: _Case) -> Iterator[_Verdict]:
    if case.evidence.success is True:
        yield _Verdict("healthy", 0.99)


def _root_error(case: _Case) -> Iterator[_Verdict]:
    if case.exit_code == 0 and case.complete:
        return
    for hit in case.hits("root", after=case.alive_until):
        if not hit.weak:
            yield _by_hit(case, hit)


def _weak_error(case: _Case) -> Iterator[_Verdict]:
    """Errors that only a general rule knows: they give way to what is known of the neighbours and of our own doings."""
    if case.exit_code == 0 and case.complete:
        return
    for hit in case.hits("root", after=case.alive_until):
        yield _by_hit(case, hit)


def _asked_to_stop(case: _Case) -> Iterator[_Verdict]:
    if case.evidence.stop_requested and (case.failed or case.exit_code == 75):
        yield _Verdict("interrupted", 0.97, _status(case, "ending.stop_requested", "interrupted"))


def _elsewhere(case: _Case) -> Iterator[_Verdict]:
    if case.exit_code == 0 and case.complete:
        return
    consequences = case.hits("cascade", after=case.alive_until)
    if not consequences:
        return
    for hit in reversed([h for h in case.hits("root", before=consequences[0].order) if not h.weak]):
        yield _by_hit(case, hit, 0.8)
    for hit in consequences:
        yield _by_hit(case, hit)


def _machine(case: _Case) -> Iterator[_Verdict]:
    for event, cause in (("panic", "host_panic"), ("rebooted", "host_rebooted"), ("slept", "host_slept")):
        ended_on_its_own = case.exit_code is not None or (case.signal is not None and case.signal != "SIGKILL")
        if event in case.evidence.host and not ended_on_its_own:
            yield _Verdict(cause, 0.9, Finding(f"host.{event}", cause, "root", "host", 0, f"the machine: {event}"))


def _status_evidence(case: _Case) -> Iterator[_Verdict]:
    if case.signal == "SIGKILL":
        if "jetsam" in case.evidence.host:
            yield _Verdict(
                "oom", 0.95, Finding("host.jetsam", "oom", "root", "host", 0, "ended by macOS for lack of memory")
            )
        if trouble := series.swapping(case.reports):
            yield _by_series(case, trouble, "oom", 0.75)
    if case.exit_code == 0 and case.complete:
        return
    for hit in case.hits("confirmation", after=case.alive_until):
        if hit.cause != "unknown":
            yield _by_hit(case, hit)
    for rule in case.rules.of_endings:
        if rule.cause != "captured" and rule.status_fits(case.exit_code, case.signal) and _in_phase(rule, case):
            yield _Verdict(rule.cause, rule.confidence, _status(case, rule.id, rule.cause), rule=rule)


def _earlier_error(case: _Case) -> Iterator[_Verdict]:
    """A process that failed without a last word: an error it seemed to survive is the best there is."""
    if case.failed:
        for hit in reversed([h for h in case.hits("root") if not h.weak]):
            yield _by_hit(case, hit, 0.5)
        yield _Verdict("unknown", 0.2, _status(case, "ending.failed", "unknown"))


def _loss(case: _Case) -> Iterator[_Verdict]:
    if trouble := series.frozen(case.reports):
        if trouble.kind == "dead":
            yield _by_series(case, trouble, "checkpoint_corruption", 0.5)
        yield _by_series(case, trouble, "divergence", 0.7)
    if trouble := series.diverged(case.reports):
        yield _by_series(case, trouble, "divergence", 0.75)
    if trouble := series.spiked(case.reports):
        yield _by_series(case, trouble, "loss_spike", 0.6)


def _speed(case: _Case) -> Iterator[_Verdict]:
    if not case.complete and (trouble := series.slowed(case.reports)):
        yield _by_series(case, trouble, "slowdown", 0.6)


def _quiet(case: _Case) -> Iterator[_Verdict]:
    if case.evidence.running and not case.complete:
        where = f"the process is there, the log stops at iteration {case.last_iteration} (phase {case.seen.phase})"
        finding = Finding("ending.quiet", "hang", "root", case.evidence.log_name, 0, where)
        yield _Verdict("hang", 0.6, finding)


def _nothing_wrong(case: _Case) -> Iterator[_Verdict]:
    seen = case.seen
    recognised = bool(case.reports) or seen.started or seen.last_event is not None
    if case.evidence.success is False:
        yield _Verdict("unknown", 0.3, _status(case, "ending.no_success", "unknown"))
    if case.complete and case.exit_code == 0:
        yield _Verdict("healthy", 0.95)
    if case.exit_code == 0 and case.iters and case.reports and case.last_iteration < 0.9 * case.iters:
        text = f"exit code 0, but the log ends at iteration {case.last_iteration} of {case.iters}"
        yield _Verdict("unknown", 0.4, Finding("ending.short", "unknown", "root", _EXIT, 0, text))
    if recognised or case.exit_code == 0:
        yield _Verdict("healthy", 0.8 if case.complete else 0.6)
    yield _Verdict("unknown", 0.1)


_ORDER = (
    _fault,
    _not_finite,
    _succeeded,
    _root_error,
    _asked_to_stop,
    _elsewhere,
    _weak_error,
    _machine,
    _status_evidence,
    _earlier_error,
    _loss,
    _speed,
    _quiet,
    _nothing_wrong,
)


def _in_phase(rule: Rule, case: _Case) -> bool:
    return not rule.phase or case.seen.phase in rule.phase


def _by_hit(case: _Case, hit: Hit, factor: float = 1.0) -> _Verdict:
    at = hit.groups.get("iteration", "")
    onset = int(at) if at.isdigit() and hit.cause in _WITH_ONSET else None
    return _Verdict(hit.cause, round(hit.rule.confidence * factor, 2), _found(case, hit), hit, hit.rule, onset)


def _by_series(case: _Case, trouble: series.Trouble, cause: str, confidence: float) -> _Verdict:
    report = trouble.report
    file = case.evidence.log_name if report.line else _METRICS
    simulated = cause == "nan_loss" and "nan" in case.seen.simulated
    finding = Finding(f"series.{trouble.kind}", cause, "root", file, report.line or 0, trouble.text, simulated)
    onset = report.iteration if cause in _WITH_ONSET else None
    return _Verdict(cause, confidence, finding, onset=onset)


def _status(case: _Case, rule: str, cause: str) -> Finding:
    text = f"ended by {case.signal}" if case.signal else f"exit code {case.exit_code}"
    return Finding(rule, cause, "root", _EXIT, 0, text)


def _found(case: _Case, hit: Hit) -> Finding:
    return Finding(hit.rule.id, hit.cause, hit.rule.role, case.evidence.log_name, hit.line, hit.text, hit.simulated)


def _finish(case: _Case, verdict: _Verdict) -> Diagnosis:
    row = case.rules.causes[verdict.cause]
    own_retryable = verdict.rule.retryable if verdict.rule else None
    findings = _findings(case, verdict)
    return Diagnosis(
        cause=verdict.cause,
        confidence=verdict.confidence,
        findings=findings,
        retryable=own_retryable or row.retryable,
        advice=_advice(verdict, row.advice),
        onset=verdict.onset,
        fingerprint="" if verdict.cause == "healthy" else _fingerprint(verdict),
        simulated=bool(verdict.finding and verdict.finding.simulated),
    )


def _findings(case: _Case, verdict: _Verdict) -> tuple[Finding, ...]:
    first = [verdict.finding] if verdict.finding else []
    seen = {(f.rule, f.line) for f in first}
    rest = []
    for hit in case.seen.hits:
        generic = hit.rule.fallback and any(h is not hit and h.order == hit.order for h in case.seen.hits)
        if (hit.rule.id, hit.line) not in seen and not generic:
            seen.add((hit.rule.id, hit.line))
            rest.append(_found(case, hit))
    return tuple((first + rest)[:_SHOWN])


def _advice(verdict: _Verdict, default: str) -> str:
    text = (verdict.rule.advice if verdict.rule else None) or default
    for name, value in (verdict.hit.groups if verdict.hit else {}).items():
        text = text.replace(f"{{{name}}}", value.strip())
    return text


def _fingerprint(verdict: _Verdict) -> str:
    if verdict.hit is not None:
        return fingerprint(verdict.cause, verdict.hit.print)
    finding = verdict.finding
    return fingerprint(verdict.cause, finding.rule if finding else "")

"""The examples that stand beside each policy row, held against what `plan` really does."""

from dataclasses import dataclass

from stoker.recovery.plan import Current, PastAttempt, Plan, Situation, plan
from stoker.recovery.policy import Example, Given, Policies, Row


@dataclass(frozen=True, slots=True)
class _Finding:
    cause: str
    text: str
    rule: str = "example"
    file: str = "train.log"
    line: int = 1


@dataclass(frozen=True, slots=True)
class _Diagnosis:
    cause: str
    findings: tuple[_Finding, ...]
    retryable: str
    onset: int | None
    fingerprint: str
    confidence: float = 1.0
    advice: str = ""


def failing_examples(policies: Policies) -> list[str]:
    """One sentence for each example that does not come out as it says; empty = all do."""
    return [
        f"the example {index + 1} of {row.name}: {problem}"
        for row in policies.rows
        for index, example in enumerate(row.examples)
        for problem in _differences(example, plan(situation_of(example.given, row, policies), policies))
    ]


def situation_of(given: Given, row: Row, policies: Policies) -> Situation:
    """The situation that an example describes."""
    cause = given.cause or row.name
    earlier = []
    for index, rung_id in enumerate(given.past):
        name = f"{row.name}/{rung_id}"
        rung = policies.rung(name)
        counted = rung is not None and rung.counted
        passed = int(given.progress)  # progress is to get past where an earlier attempt ended
        ended = given.earlier_at[index] if index < len(given.earlier_at) else given.last_iteration - passed
        onset = None if given.onset is None else given.onset - passed
        # The first attempt left a checkpoint, so that the later ones can be without progress.
        best = 1 if index == 0 else None
        earlier.append(
            PastAttempt(index + 1, cause, given.fingerprint, given.from_iteration, ended, best, name, counted, onset)
        )
    n = len(earlier) + 1
    best = 2 if given.progress else None
    last = PastAttempt(
        n, cause, given.fingerprint, given.from_iteration, given.last_iteration, best, None, True, given.onset
    )
    findings = (_Finding(cause, given.finding),) if given.finding else ()
    return Situation(
        diagnosis=_Diagnosis(cause, findings, given.retryable, given.onset, given.fingerprint),
        attempt=n,
        history=(*earlier, last),
        current=Current(
            batch_size=given.batch_size,
            micro_batch=given.micro_batch,
            grad_checkpoint=given.grad_checkpoint,
            max_seq_length=given.max_seq_length,
            lr_factor=1.0,
            learning_rate=given.learning_rate,
            step=given.last_iteration,
            eased_from=given.eased_from,
        ),
        good=given.good,
        lossy=given.lossy,
        start_over=given.start_over,
        lost_seconds_if_restarted=given.lost_seconds,
        capabilities=frozenset({"resume", "micro_batch", "grad_checkpoint", "learning_rate", "max_seq_length"}),
    )


def _differences(example: Example, made: Plan) -> list[str]:
    expected = example.expect.model_dump(exclude_unset=True)
    actual = {
        "rung": made.row.partition("/")[2],
        "action": made.action,
        "target": made.target,
        "adjust": {} if made.adjustment is None else {made.adjustment.field: made.adjustment.to},
        "counted": made.counted,
        "delay_s": made.delay_s,
        "release": made.release,
    }
    return [f"expected {key} {want!r}, got {actual[key]!r}" for key, want in expected.items() if actual[key] != want]

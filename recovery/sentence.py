"""The reason of a plan as a sentence: what happened; what is done about it; what else is worth knowing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stoker.recovery.conditions import Facts, holds
from stoker.recovery.policy import Policies, Rung
from stoker.recovery.situation import Adjustment

# A line of a log can be endless; a reason is read on a phone.
LONGEST_FINDING = 240


@dataclass(frozen=True, slots=True)
class Sentence:
    """Everything the texts of the policies may name."""

    facts: Facts
    policies: Policies
    target: int
    used: int
    delay: float
    adjustment: Adjustment | None

    def happened(self) -> str:
        """The first half: what happened."""
        cause = self.facts.situation.diagnosis.cause
        words = self.policies.words.get(cause, self.policies.words.get("unknown", "the trainer ended{at}"))
        return words.format_map(self._values())

    def reason(self, rung: Rung, spent: Sequence[str]) -> str:
        """The whole sentence for a rung; `spent` are the ceilings that forbade the rungs above it."""
        values = self._values()
        if not rung.launches:
            values["used"] = _uses(self.facts, rung)
        parts = [f"{self.happened()}; {rung.say.format_map(values).strip()}"]
        parts += [note.text.format_map(values) for note in rung.notes if holds(note.when, self.facts)]
        parts += [f"{limit[0].upper()}{limit[1:]}." for limit in dict.fromkeys(spent)]
        return " ".join(_closed(parts))

    def _values(self) -> dict[str, Any]:
        current, finding = self.facts.situation.current, self.facts.finding
        earlier = ", ".join(str(attempt.where) for attempt in self.facts.alike)
        return {
            "at": self._at(),
            "iteration": self.facts.last.where,
            "earlier": earlier,
            "source": self._source(),
            "from": _number(self.adjustment.from_) if self.adjustment else "",
            "to": _number(self.adjustment.to) if self.adjustment else "",
            "micro_batch": current.micro_batch or current.batch_size,
            "grad_checkpoint": "on" if current.grad_checkpoint else "off",
            "max_seq_length": current.max_seq_length,
            "learning_rate": _number(current.learning_rate) if current.learning_rate is not None else "unknown",
            "delay": duration(self.delay),
            "used": self.used,
            "finding": _shortened(finding.text) if finding else "no line of the log says more",
            "place": f" ({finding.file}:{finding.line})" if finding and finding.file and finding.line else "",
            "advice": self.facts.situation.diagnosis.advice,
            "cause": self.facts.situation.diagnosis.cause,
        }

    def _at(self) -> str:
        last = self.facts.last
        if last.onset is not None:
            return f" at iteration {last.onset}"
        return " before its first iteration" if self.facts.no_iteration else f" after iteration {last.last_iteration}"

    def _source(self) -> str:
        if self.target == 0:
            return "the start (iteration 0)"
        return self.facts.situation.names.get(self.target, f"iteration {self.target}")


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 12 min, 2.3 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _uses(facts: Facts, ending: Rung) -> int:
    """How often the rungs above the end of a ladder were used."""
    above = [rung for rung in facts.row.rungs if rung.id != ending.id]
    return sum(facts.used(rung, f"{facts.row.name}/{rung.id}") for rung in above)


def _number(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_FINDING else f"{line[: LONGEST_FINDING - 1]}…"


def _closed(parts: list[str]) -> list[str]:
    """Each part with a full stop, so that the parts can stand side by side."""
    return [part if part.endswith((".", "!", "?", "…")) or len(parts) == 1 else f"{part}." for part in parts]

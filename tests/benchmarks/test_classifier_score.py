"""Score the classifier on a labelled JSONL file: `STOKER_CORPUS=file.jsonl pytest -m benchmark -s tests/benchmarks`.

A row needs log, cause, and optionally accept (all right answers), exit_code, signal, running, retryable, id.
"""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from stoker.recovery.diagnose import diagnose
from stoker.recovery.evidence import Evidence

CORPUS = os.environ.get("STOKER_CORPUS")
RETRYABLE = {True: "yes", False: "no", "with-changes": "adjusted"}


@pytest.mark.benchmark
@pytest.mark.skipif(not CORPUS, reason="STOKER_CORPUS names no labelled file")
def test_score():
    rows = [json.loads(line) for line in Path(CORPUS).read_text().splitlines() if line.strip()]
    confusion, wrong, alarms, retry = Counter(), [], [], Counter()
    for row in rows:
        status = {key: row.get(key) for key in ("exit_code", "signal")}
        found = diagnose(Evidence(log=row["log"], running=bool(row.get("running")), **status))
        accepted = found.cause in row.get("accept", [row["cause"]])
        confusion[row["cause"], found.cause] += 1
        if not accepted:
            wrong.append(f"{row.get('id')}: {row['cause']} was called {found.cause}")
            if row["cause"] == "healthy":
                alarms.append(row.get("id"))
        if row.get("retryable") in RETRYABLE:
            retry[found.retryable == RETRYABLE[row["retryable"]]] += 1
    right = len(rows) - len(wrong)
    print(
        f"\naccepted {right} of {len(rows)} ({100 * right / len(rows):.1f} %), healthy logs called a crash: {len(alarms)}"
    )
    exact = sum(count for (label, answer), count in confusion.items() if label == answer)
    print(f"named exactly: {exact}; retryable as labelled: {retry[True]} of {sum(retry.values())}")
    for (label, answer), count in sorted(confusion.items()):
        if label != answer:
            print(f"  {count:3d}  {label} -> {answer}")
    print("\n".join(wrong))
    assert not alarms
    assert right >= 0.95 * len(rows)

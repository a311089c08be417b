"""The closed list of reasons why a result need not be exact, and what an attempt is called for each."""

import json
import re
from pathlib import Path

import pytest

from stoker.recovery import edited
from stoker.supervisor.trainer.labels import WARM, Code, code_of, make_warm, reason
from stoker.supervisor.trainer.launch import read_launch

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "exactness.md"


def test_a_reason_is_its_code_and_words():
    assert reason(Code.EDITED, "val_batches 2 -> 4") == "edited: val_batches 2 -> 4"
    assert code_of("edited: val_batches 2 -> 4: why: not") is Code.EDITED
    with pytest.raises(ValueError, match="bad_weather"):
        code_of("bad_weather: rain")


def test_every_code_has_one_sentence():
    for code in Code:
        assert re.fullmatch(r"[A-Z][^.]+\.", code.meaning), code


@pytest.mark.parametrize("code", Code)
def test_adjustments_go_on_exactly_and_everything_else_is_warm(code):
    adjustments = {"micro_batch", "learning_rate", "grad_checkpoint", "max_seq_length", "edited"}
    assert make_warm([f"{code}: x"]) is (code not in adjustments)
    assert make_warm(["micro_batch: x", f"{code}: x"]) is (code in WARM)
    assert make_warm([]) is False


def test_the_document_lists_exactly_these_codes_with_their_meaning():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(code.value, code.meaning) for code in Code]


def test_the_labels_of_the_daemon_are_of_the_list():
    fields = [*edited._CODES, "iters", "save_every"]
    records = [{"attempt": 2, "field": field, "from": 8, "to": 4} for field in fields]
    labels = edited.labels(records, {1: 0, 2: 40})
    assert {code_of(text) for text in labels} <= set(Code)
    assert len(labels) == len(edited._CODES)


@pytest.fixture(name="attempt")
def _attempt(tmp_path):
    """Writes a launch.json and reads it as the trainer does."""

    def attempt(**wants):
        places = {"checkpoints": "/c", "staging": "/s", "inputs": "/i"}
        document = {"v": 1, "run_id": "r_1", "attempt": 2, "trainer": {**places, **wants}}
        (tmp_path / "launch.json").write_text(json.dumps(document))
        return read_launch(tmp_path)

    return attempt


def test_a_reason_of_another_version_of_the_daemon_is_refused(attempt):
    assert attempt(labels=["edited: val_batches 2 -> 4"]).labels == ("edited: val_batches 2 -> 4",)
    assert attempt().labels == ()
    with pytest.raises(ValueError, match="bad_weather"):
        attempt(labels=["bad_weather: rain"])


def test_only_the_mode_of_the_launch_decides_what_is_restored(attempt):
    assert not attempt().weights_only
    assert not attempt(resume={"checkpoint": "/c/8", "mode": "exact"}, accept_changed=True).weights_only
    assert attempt(resume={"checkpoint": "/c/8", "mode": "warm"}).weights_only

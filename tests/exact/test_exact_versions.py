"""Other versions of mlx-lm, in interpreters where Stoker is not installed: trained for real, killed, and held against
the stock command of the same interpreter. And an mlx-lm whose training code nobody has reviewed.
"""

import ast
import json
import shutil
import sys
from pathlib import Path

import mlx_lm
import pytest
from harness_environments import NEWEST, REQUIREMENTS, interpreter
from harness_exact import measured, prove
from harness_matrix import CASES
from harness_trainer import KINDS, TrainerRun, adapters_of, tiny_for_tests
from harness_trainer import stock as stock_of
from harness_training import LORA, SLOW, causes, sha256_of_file, stock

pytestmark = [pytest.mark.exact, pytest.mark.training, pytest.mark.timeout(1800)]


@pytest.fixture(params=REQUIREMENTS, scope="module")
def foreign(request):
    """An interpreter with that mlx-lm; made when it is first needed."""
    with measured(f"mlx-lm {request.param}", "set-up"):
        return interpreter(request.param)


@pytest.mark.parametrize("name", ["full-muon", "dora-dropout", "lora-4-bits"])
def test_kills_end_in_the_bytes_of_that_interpreters_stock_command(name, foreign, variants, tmp_path):
    case = CASES[name]
    campaign = prove(case, variants, tmp_path, python=str(foreign.python), title=f"mlx-lm {foreign.name} {name}")
    print(campaign.table(f"\nmlx-lm {foreign.versions['mlx_lm']}, mlx {foreign.versions['mlx']}: {case.words}"))


def test_a_job_with_its_own_interpreter_is_exact_under_the_daemon(foreign, works, tmp_path):
    tiny = tiny_for_tests(tmp_path / "tiny")
    works.start(failpoints=SLOW)
    run = works.train("foreign", tiny, LORA, python=str(foreign.python))
    attempt = works.reach_iteration(run, 1, 12)
    works.kill_trainer(attempt)

    shown = works.ended(run)

    assert causes(shown) == ["killed", "healthy"]
    assert [row["resume"] for row in shown["attempts"]] == ["fresh", "exact"]
    assert shown["attempts"][1]["from_iteration"] > 0
    assert shown["exact"] is True
    config = works.paths(run).attempt(1).config
    adapter = stock(config, tmp_path / "stock", python=str(foreign.python))
    assert shown["final"]["sha256"] == sha256_of_file(adapter / "adapters.safetensors")
    recorded = [works.rows(run, n, "start")[0]["versions"] for n in (1, 2)]
    recorded.append(json.loads(works.paths(run).inputs.read_bytes())["versions"])
    assert all(versions.items() >= foreign.versions.items() for versions in recorded), recorded


def test_no_configuration_is_warm_on_the_newest_mlx_lm():
    """All of the matrix runs with this interpreter, so it has to have what the registry calls the newest."""
    newest = interpreter(NEWEST)
    from stoker.supervisor.trainer.versions import reviewed, source_hash, versions

    known = reviewed()
    assert source_hash(newest.site / "mlx_lm") in known.values(), (
        f"mlx-lm {newest.versions['mlx_lm']} is not reviewed: versions.py says what to do"
    )
    assert source_hash(newest.site / "mlx_lm") == known[versions()["mlx_lm"]]


@pytest.fixture
def changed(tmp_path):
    """A folder for PYTHONPATH with this interpreter's mlx-lm, whose train() has one more comment."""
    package = shutil.copytree(Path(mlx_lm.__path__[0]), tmp_path / "site" / "mlx_lm")
    file = package / "tuner" / "trainer.py"
    lines = file.read_text().splitlines(keepends=True)
    train = next(node for node in ast.parse("".join(lines)).body if getattr(node, "name", "") == "train")
    lines.insert(train.body[0].lineno - 1, "    # nobody has read this line\n")
    file.write_text("".join(lines))
    return package.parent


def test_an_mlx_lm_that_was_not_reviewed_is_never_called_exact(changed, tmp_path):
    """The full state is restored all the same, so here the bytes are equal, which nobody could know beforehand."""
    tiny = tiny_for_tests(tmp_path / "tiny")
    run = TrainerRun(tmp_path / "run", tiny, KINDS["full"], env={"PYTHONPATH": str(changed)})
    assert run.launch(failpoints="trainer.iteration.end:kill@11").wait() == -9

    last = run.finish()

    first = json.loads((run.folder / "attempts" / "1" / "metrics.jsonl").read_text().splitlines()[0])
    start = last.of_kind("start")[0]
    assert [row["resume"] for row in (first, start)] == ["fresh", "warm"]
    for row in (first, start):
        assert row["proved"] is False
        assert [reason.partition(":")[0] for reason in row["label_reasons"]] == ["unproved_mlx_lm"]
    assert start["from_iteration"] == 8
    assert adapters_of(run.adapter) == adapters_of(stock_of(tiny, KINDS["full"], tmp_path / "stock"))


def test_the_daemon_says_that_such_a_run_is_not_exact(changed, works, tmp_path):
    tiny = tiny_for_tests(tmp_path / "tiny")
    works.start(failpoints=SLOW)
    run = works.train("unread", tiny, LORA, python=sys.executable, env={"PYTHONPATH": str(changed)})
    attempt = works.reach_iteration(run, 1, 12)
    works.kill_trainer(attempt)

    shown = works.ended(run)

    assert shown["exact"] is False
    assert [row["resume"] for row in shown["attempts"]] == ["fresh", "warm"]
    assert [reason.partition(":")[0] for reason in shown["label_reasons"]] == ["unproved_mlx_lm"]

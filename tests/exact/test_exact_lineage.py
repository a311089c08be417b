"""Under the daemon: what a rewind leaves in the adapter folder, and runs that go on after their end."""

import pytest
from harness_training import FULL, LORA, SLOW, Stock, causes, sha256_of_file, warm_up

from stoker.supervisor.demo.tiny import make_tiny

pytestmark = [pytest.mark.exact, pytest.mark.training, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    made = make_tiny(folder, examples=40)
    warm_up(folder / "full", "full", made, FULL)
    warm_up(folder / "lora", "lora", made, LORA)
    return made


def numbered(folder):
    return {int(path.name.split("_")[0]): sha256_of_file(path) for path in folder.glob("*_adapters.safetensors")}


def test_numbered_files_belong_to_the_surviving_lineage_only(tiny, works):
    """A nan at the same iteration twice: the third attempt goes further back with half the learning rate, so the files
    above its start are of a history that did not happen, until it writes them anew.
    """
    works.start(failpoints=SLOW)
    keys = {"save_every": 5, "steps_per_report": 1}
    drill = [{"fault": "nan", "at": 15, "attempts": [1, 2]}]
    run = works.train("rewound", tiny, LORA, keys, drill=drill, checkpoint={"keep": 50})
    paths = works.paths(run)
    works.reach(run, 3, lambda beat: beat.get("phase") in {"compile", "train"}, "trains")
    start = works.show(run)["attempts"][2]["from_iteration"]
    meanwhile = numbered(paths.adapter)

    shown = works.ended(run)

    assert causes(shown) == ["nan_loss", "nan_loss", "healthy"]
    assert [row["field"] for row in shown["adjustments"]] == ["learning_rate"]
    assert start < 10
    assert all(iteration <= start for iteration in meanwhile), (start, sorted(meanwhile))
    abandoned = numbered(paths.superseded / "a1")
    assert sorted(abandoned) == [iteration for iteration in (5, 10) if iteration > start]
    final = numbered(paths.adapter)
    assert sorted(final) == [5, 10, 15, 20, 25, 30]
    saved = {row["iteration"] for row in works.rows(run, 3, "save")}
    assert saved == {iteration for iteration in final if iteration > start}
    assert not set(final.values()) & set(abandoned.values())


@pytest.mark.parametrize(("kind", "short"), [(FULL, 15), (LORA, 13)])
def test_a_completed_run_with_more_iterations_goes_on_exactly(kind, short, tiny, works, tmp_path):
    """Edited when it had ended within an accumulation, and killed after that."""
    reference = Stock(tmp_path / "stock")
    works.start(failpoints=SLOW)
    run = works.train("grown", tiny, kind, {"iters": short})
    works.ended(run)

    edited = works.stoker("edit", run, "iters=30")
    assert edited.returncode == 0, edited.stderr
    attempt = works.reach_iteration(run, 2, 22)
    works.kill_trainer(attempt)
    works.wait(lambda: works.show(run)["attempt"] > 2, "attempt 3 starts")
    shown = works.ended(run)

    assert causes(shown) == ["healthy", "killed", "healthy"]
    assert [row["resume"] for row in shown["attempts"]] == ["fresh", "exact", "exact"]
    assert shown["exact"] is True, shown["label_reasons"]
    assert shown["iters"] == 30
    config = works.paths(run).attempt(3).config
    assert shown["final"]["sha256"] == reference.sha256(config)
    assert numbered(works.paths(run).adapter) == numbered(reference.adapter(config))

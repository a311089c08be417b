"""Edits of runs of mlx-lm, judged and recorded without training: attempts, reports and checkpoints are made by hand."""

import json
from types import SimpleNamespace

import pytest
import yaml

from stoker.recovery.checkpoint.manifest import MANIFEST, checkpoint_name
from stoker.supervisor import editing
from stoker.supervisor.clock import SystemClock
from stoker.supervisor.context import Context
from stoker.supervisor.errors import StokerError
from stoker.supervisor.files import append_line
from stoker.supervisor.jobs import Submission, admit
from stoker.supervisor.launching import request
from stoker.supervisor.paths import Home
from stoker.supervisor.prepare import prepare, select
from stoker.supervisor.settings import DiskSettings, Settings
from stoker.supervisor.settling import NEWEST
from stoker.supervisor.states import State
from stoker.supervisor.store.read import Reader
from stoker.supervisor.store.write import Store

JOB = {
    "model": "model", "data": "./data", "iters": 40, "batch_size": 4, "grad_accumulation_steps": 2,
    "learning_rate": 1e-3, "max_seq_length": 64, "steps_per_eval": 7, "val_batches": 2, "save_every": 10,
}  # fmt: skip
SCHEDULE = {"name": "cosine_decay", "arguments": [1e-3, 20]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What the interpreter said of itself, asked once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def desk(place, cache):
    """A home without a daemon, and what the tests do with a run there."""
    home = Home(place / "home")
    home.cache.symlink_to(cache)
    home.create()
    clock = SystemClock()
    store = Store(home, clock)
    yield Desk(Context(home, Settings(disk=DiskSettings(min_free=0)), clock, store, "boot", "host"), place)
    store.close()


class Desk:
    def __init__(self, ctx, place):
        self.ctx, self.place, self.store = ctx, place, ctx.store

    def admit(self, name="job", *, stoker=None, **keys):
        text = yaml.safe_dump(JOB | keys | {"stoker": {"name": name, **(stoker or {})}})
        submission = Submission(text.encode(), f"{name}.yaml", self.place)
        verdict = admit(self.ctx.home, self.store, self.ctx.clock, submission, min_free_gb=0)
        assert verdict.run_id, verdict.as_text()
        return verdict.run_id

    def attempt(self, run, reached, *, state, from_iteration=0, rates=(), labels=(), **columns):
        """One more attempt, that ended at `reached` with checkpoints every ten iterations."""
        n, paths = self.row(run)["attempt"] + 1, self.ctx.home.run(run)
        paths.attempt(n).dir.mkdir(exist_ok=True)
        for iteration in range(from_iteration // 10 * 10 + 10, reached + 1, 10):
            folder = paths.checkpoints / checkpoint_name(iteration, n)
            folder.mkdir()
            (folder / MANIFEST).write_text("{}")
        for iteration, rate in rates:
            row = {"kind": "train", "iteration": iteration, "learning_rate": rate}
            append_line(paths.attempt(n).metrics, json.dumps(row))
        with self.store.transaction():
            self.store.insert_attempt(
                run_id=run, n=n, started_at=1.0, ended_at=2.0, boot_id="boot", from_iteration=from_iteration,
                to_iteration=reached, resume="exact", labels=json.dumps(list(labels)),
            )  # fmt: skip
            next_ = json.dumps({"target": NEWEST, "mode": "exact"})
            self.store.update_run(run, attempt=n, state=state, iteration=reached, **{"next": next_, **columns})

    def begun(self, *, state=State.HELD, reached=25, stoker=None, rates=(), columns=None, **keys):
        run = self.admit(stoker=stoker, **keys)
        self.attempt(run, reached, state=state, rates=rates, **(columns or {}))
        return run

    def edit(self, run, *words):
        """Return the answer of a `stoker edit`."""
        edit = editing.judge(self.ctx, run, words)
        editing.write(self.ctx, edit)
        with self.store.transaction():
            return editing.carry_out(self.ctx, edit)[0]

    def refused(self, run, *words):
        """Return the error of an edit that must change nothing."""
        before = tuple(self.row(run)), self.ctx.home.run(run).job.read_bytes()
        with pytest.raises(StokerError) as caught:
            self.edit(run, *words)
        assert (tuple(self.row(run)), self.ctx.home.run(run).job.read_bytes()) == before
        return caught.value

    def row(self, run):
        return self.store.run(run)

    def show(self, run):
        with Reader(self.ctx.home) as reader:
            return reader.show(run)

    def launched(self, run):
        """Return config.yaml and the trainer's part of launch.json of the next attempt."""
        wanted = request(self.ctx, self.row(run))
        sound = SimpleNamespace(verdict=lambda _path: SimpleNamespace(ok=True))
        prepare(wanted, select(wanted, sound))
        paths = self.ctx.home.run(run).attempt(wanted.n)
        return yaml.safe_load(paths.config.read_bytes()), json.loads(paths.launch.read_bytes())["trainer"]


def changes(shown):
    return [(a["attempt"], a["field"], a["from"], a["to"]) for a in shown["adjustments"]]


# --- before the first attempt


def test_a_run_that_never_started_is_simply_another_configuration(desk):
    run = desk.admit()
    submitted = desk.ctx.home.run(run).submitted.read_bytes()
    said = desk.edit(
        run, "iters=60", "learning_rate=5e-4", "grad_checkpoint=true", "steps_per_eval=20", "stoker.priority=3"
    )
    assert "iters 40 → 60" in said
    shown = desk.show(run)
    assert (shown["exact"], changes(shown), shown["state"]) == (True, [], "queued")
    assert (shown["iters"], shown["priority"], shown["config"]["learning_rate"]) == (60, 3, 5e-4)
    assert shown["provenance"]["learning_rate"] == "edited by you"
    assert shown["provenance"]["batch_size"] == "job"
    config, trainer = desk.launched(run)
    assert (config["iters"], config["grad_checkpoint"], config["steps_per_eval"]) == (60, True, 20)
    assert (trainer["labels"], trainer["learning_rate"], trainer["micro_batch"]) == ([], [], None)
    assert desk.ctx.home.run(run).submitted.read_bytes() == submitted
    frozen = yaml.safe_load(desk.ctx.home.run(run).job.read_bytes())
    assert (frozen["iters"], frozen["stoker"]) == (60, {"name": "job", "priority": 3})


def test_micro_batch_is_no_key_of_mlx_lm_and_always_a_recorded_change(desk):
    run = desk.admit()
    desk.edit(run, "micro_batch=2")
    assert changes(desk.show(run)) == [(1, "micro_batch", 4, 2)]
    assert desk.show(run)["exact"] is False
    config, trainer = desk.launched(run)
    assert trainer["micro_batch"] == 2
    assert trainer["labels"] == ["micro_batch: 4 -> 2 at iteration 0"]
    assert "micro_batch" not in config
    assert "micro_batch" not in desk.ctx.home.run(run).job.read_text()
    for word in ("micro_batch=null", "micro_batch=4"):
        desk.edit(run, "micro_batch=1")
        desk.edit(run, word)
        assert (changes(desk.show(run)), desk.show(run)["exact"]) == ([], True)
    for value in ("0", "5", "true", "x", "1.5"):
        assert "a whole number from 1 to 4" in desk.refused(run, f"micro_batch={value}").message


def test_iters_only_go_up(desk):
    run = desk.admit()
    error = desk.refused(run, "iters=39")
    assert "39 is less than 40" in error.message
    assert "submit a copy" in error.message
    assert desk.edit(run, "iters=40") == "nothing to change: it is so already"


def test_all_mistakes_are_named_and_nothing_is_changed(desk):
    run = desk.admit()
    error = desk.refused(run, "itres=9", "iters=9", "learning_rate=-1", "save_every=0", "stoker.recovery.lossy=x",
                         "batch_size=2", "micro_batch=9", "stoker.checkpoint.evry=3", "stoker.priority=7")  # fmt: skip
    for words in ("did you mean iters?", "9 is less than 40", "learning_rate: expected a number greater than 0",
                  "save_every: expected 1 or more", "expected one of allow, ask, never", "batch_size: a change of it",
                  "from 1 to 4", "did you mean every?"):  # fmt: skip
        assert words in error.message
    assert "stoker.priority" not in error.message
    assert "can be edited: iters" in error.hint
    assert error.exit_code == 2


def test_a_change_of_what_a_checkpoint_may_cost_is_bounded_as_at_admission(desk):
    run = desk.admit(stoker={"checkpoint": {"every": 30}}, iters=100)
    assert changes(desk.show(run)) == [(1, "stoker.checkpoint.every", 30, 5)]
    desk.edit(run, "iters=200")
    assert changes(desk.show(run)) == [(1, "stoker.checkpoint.every", 30, 10)]
    desk.edit(run, "stoker.checkpoint.every=8")
    assert changes(desk.show(run)) == []
    assert desk.launched(run)[1]["every"]["iterations"] == 8
    desk.attempt(run, 25, state=State.HELD)
    desk.edit(run, "stoker.checkpoint={every: 12, keep: 1}")
    assert changes(desk.show(run))[-1] == (2, "stoker.checkpoint.every", 12, 10)
    assert desk.launched(run)[1]["keep"] == 1


def test_what_was_wrong_before_is_no_fault_of_the_edit(desk):
    """A model on a volume that is not mounted now: the priority can be edited all the same."""
    run = desk.admit()
    (desk.place / "model").rename(desk.place / "elsewhere")
    before = desk.show(run)
    desk.edit(run, "stoker.priority=9")
    assert desk.show(run)["config"] == before["config"]
    error = desk.refused(run, "stoker.priority=many")
    assert "expected a whole number" in error.message
    assert "model" not in error.message


def test_needs_that_go_round_in_a_circle_are_refused(desk):
    desk.admit("two", stoker={"needs": ["one"]})
    run = desk.admit("one")
    assert "one -> two -> one" in desk.refused(run, "stoker.needs=[two]").message
    desk.edit(run, "stoker.needs=[three]")
    assert json.loads(desk.row(run)["job"])["stoker"]["needs"] == ["three"]


# --- in the middle of the training


def test_what_touches_no_weight_stays_exact(desk):
    run = desk.begun()
    said = desk.edit(
        run, "iters=60", "save_every=20", "steps_per_report=3", "stoker.priority=2", "stoker.checkpoint.every=10m"
    )
    assert said.endswith(f"then: stoker resume {run}")
    shown = desk.show(run)
    assert shown["exact"] is True
    assert changes(shown) == [
        (2, "iters", 40, 60), (2, "save_every", 10, 20), (2, "steps_per_report", 10, 3),
        (2, "stoker.priority", 0, 2), (2, "stoker.checkpoint.every", "auto", "10m"),
    ]  # fmt: skip
    assert {a["reason"] for a in shown["adjustments"]} == {"edited by you"}
    config, trainer = desk.launched(run)
    assert (config["iters"], config["save_every"], trainer["labels"]) == (60, 20, [])
    assert trainer["resume"]["checkpoint"].endswith("00000020-a1")
    assert trainer["every"]["seconds"] == 600


def test_what_touches_weights_is_labelled_and_not_exact(desk):
    run = desk.begun()
    desk.edit(run, "steps_per_eval=20", "val_batches=4", "grad_checkpoint=true", "max_seq_length=32", "micro_batch=2")
    shown = desk.show(run)
    assert shown["exact"] is False
    assert [a["lossy"] for a in shown["adjustments"]] == [False, False, False, True, False]
    config, trainer = desk.launched(run)
    assert trainer["labels"] == [
        "edited: steps_per_eval 7 -> 20 at iteration 20",
        "edited: val_batches 2 -> 4 at iteration 20",
        "grad_checkpoint: false -> true at iteration 20",
        "max_seq_length: 64 -> 32 at iteration 20",
        "micro_batch: 4 -> 2 at iteration 20",
    ]
    assert (config["steps_per_eval"], config["grad_checkpoint"], config["max_seq_length"]) == (20, True, 32)
    assert trainer["micro_batch"] == 2
    desk.edit(run, "steps_per_eval=7", "val_batches=2", "grad_checkpoint=false", "max_seq_length=64", "micro_batch=4")
    assert (changes(desk.show(run)), desk.show(run)["exact"]) == ([], True)
    assert desk.launched(run)[0] == {**config, "steps_per_eval": 7, "val_batches": 2, "grad_checkpoint": False,
                                     "max_seq_length": 64}  # fmt: skip


def test_a_run_that_was_labelled_before_does_not_become_exact(desk):
    run = desk.begun(columns={"labels": ["inputs_changed: data"], "exact": 0})
    desk.edit(run, "iters=60")
    assert desk.show(run)["exact"] is False


def test_a_learning_rate_is_a_multiplier_from_the_next_step_on(desk):
    run = desk.begun()
    assert "learning_rate 0.001 → 0.0005" in desk.edit(run, "learning_rate=5e-4")
    config, trainer = desk.launched(run)
    assert config["learning_rate"] == 1e-3
    assert trainer["learning_rate"] == [{"from_step": 10, "factor": 0.5, "ramp_steps": 0}]  # 20 iterations, 2 a step
    assert desk.show(run)["exact"] is False
    desk.attempt(run, 35, from_iteration=20, state=State.HELD)
    desk.edit(run, "learning_rate=1e-3")
    assert changes(desk.show(run)) == [(2, "learning_rate", 1e-3, 5e-4), (3, "learning_rate", 5e-4, 1e-3)]
    assert desk.launched(run)[1]["learning_rate"] == [
        {"from_step": 10, "factor": 0.5, "ramp_steps": 0},
        {"from_step": 15, "factor": 2.0, "ramp_steps": 0},
    ]


def test_with_a_schedule_the_factor_is_to_the_rate_in_effect_where_it_goes_on(desk):
    """Not to the last one reported: the checkpoint lies before it."""
    run = desk.begun(lr_schedule=SCHEDULE, rates=[(10, 8e-4), (20, 4e-4), (24, 2e-4)])
    desk.edit(run, "learning_rate=1e-4")
    assert changes(desk.show(run)) == [(2, "learning_rate", 4e-4, 1e-4)]
    assert desk.launched(run)[1]["learning_rate"] == [{"from_step": 10, "factor": 0.25, "ramp_steps": 0}]


def test_with_a_schedule_a_rate_that_is_not_known_cannot_be_changed(desk):
    run = desk.begun(lr_schedule=SCHEDULE, rates=[(24, 2e-4)])
    assert "none was reported up to iteration 20" in desk.refused(run, "learning_rate=1e-4").message
    fresh = desk.admit("fresh", lr_schedule=SCHEDULE)
    assert "lr_schedule decides" in desk.refused(fresh, "learning_rate=1e-4").message


def test_a_proposal_that_waits_for_a_person_stays_unless_the_same_field_is_edited(desk):
    proposed = {"field": "learning_rate", "from": 1e-3, "to": 5e-4, "reason": "nan", "preserves": [], "lossy": False,
                "launch": {"from_step": 10, "factor": 0.5, "ramp_steps": 10}}  # fmt: skip
    columns = {"next": json.dumps({"target": 20, "mode": "exact", "adjustment": proposed})}
    run = desk.begun(columns=columns)
    desk.edit(run, "iters=60")
    assert json.loads(desk.row(run)["next"])["adjustment"] == proposed
    said = desk.edit(run, "learning_rate=2e-4")
    assert "learning_rate 0.001 → 0.0005, is dropped" in said
    assert json.loads(desk.row(run)["next"]) == {"target": 20, "mode": "exact"}


def test_an_edit_never_changes_what_it_does_not_name(desk):
    """The job is judged with the mlx-lm and the model of today; the run keeps the values it was accepted with."""
    run = desk.begun()
    job = json.loads(desk.row(run)["job"])
    job["config"] |= {"lora_parameters": {"rank": 3}, "num_layers": 2, "seed": 5}  # as if the defaults were others then
    with desk.store.transaction():
        desk.store.update_run(run, job=json.dumps(job))
    desk.edit(run, "iters=60")
    assert desk.show(run)["config"] == job["config"] | {"iters": 60}


# --- ended runs


def test_a_completed_run_goes_on_when_iters_are_raised(desk):
    final = {"adapter": "/a", "sha256": "0", "loss": 1.0}
    run = desk.begun(
        state=State.COMPLETED, reached=40, columns={"final": json.dumps(final), "ended_at": 9.0, "recorded": 1}
    )
    for words in (["stoker.priority=1"], ["iters=40"], ["save_every=5", "learning_rate=1e-4"]):
        error = desk.refused(run, *words)
        assert "reached its last iteration (40); raise iters" in error.message
        assert error.exit_code == 1
    assert "it goes on from 00000040-a1" in desk.edit(run, "iters=80", "stoker.priority=1")
    row = desk.row(run)
    assert (row["state"], row["iters"], row["priority"], row["exact"]) == ("queued", 80, 1, 1)
    assert (row["final"], row["ended_at"], row["recorded"], row["iteration"]) == (None, None, 0, 40)
    assert json.loads(row["next"]) == {"target": NEWEST, "mode": "exact"}
    assert desk.launched(run)[1]["resume"]["checkpoint"].endswith("00000040-a1")


def test_a_completed_run_without_a_checkpoint_or_whose_folder_is_taken_stays_completed(desk):
    adapter = str(desk.place / "adapter")
    run = desk.begun(state=State.COMPLETED, reached=40, adapter_path=adapter)
    other = desk.admit("other", adapter_path=adapter)
    for path in desk.ctx.home.run(run).checkpoints.iterdir():
        path.rename(desk.place / path.name)
    error = desk.refused(run, "iters=80")
    assert f"belongs to the run {other}" in error.message
    assert "no checkpoint of it is left" in error.message


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
def test_an_ended_run_stays_as_it_is_and_the_answer_names_retry(desk, state):
    run = desk.begun(state=state, columns={"ended_at": 9.0, "recorded": 1, "reason": "why"})
    assert desk.edit(run, "max_seq_length=32").endswith(f"then: stoker retry {run}")
    row = desk.row(run)
    assert (row["state"], row["ended_at"], row["recorded"], row["reason"]) == (state, 9.0, 1, "why")
    assert changes(desk.show(run)) == [(2, "max_seq_length", 64, 32)]

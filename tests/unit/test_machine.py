"""What a verdict on this machine is worth, and how one is made (stoker doctor --exact), with trainings made up for it."""

import json
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from stoker.supervisor.cli import exact
from stoker.supervisor.cli.doctor import doctor as doctor_verb
from stoker.supervisor.demo.trial import Ours, Trial, Tried, perform
from stoker.supervisor.exactness import keep_verdict, newest_verdict, read_verdicts
from stoker.supervisor.paths import Home
from stoker.supervisor.trainer.machine import COMMAND, VERSIONS, Machine, doubt, machine_is_proved, needs_verdict

NOW = dict.fromkeys(VERSIONS, "1.0")
MAC = Machine("gpu Apple M3 Ultra", "Darwin 25.5.0", NOW)
CUDA = Machine("gpu NVIDIA H100", "Linux", NOW)
CPU = Machine("cpu AMD EPYC", "Linux", NOW)
OTHERS = (
    replace(MAC, device="gpu Apple M4 Max"),
    replace(MAC, system="Darwin 26.0.0"),
    *(replace(MAC, versions={**NOW, name: "1.1"}) for name in VERSIONS),
)


def verdict(machine, *, exact):
    return {"machine": machine.as_json(), "exact": exact, "at": "2026-11-22T12:00:00Z"}


def test_only_linux_needs_no_verdict():
    assert [machine_is_proved(machine, []) for machine in (CPU, CUDA, MAC)] == [True, True, False]
    assert needs_verdict("Darwin 25.5.0")
    assert doubt(CPU, []) == ""


def test_a_verdict_decides_on_every_machine():
    for machine in (CPU, CUDA, MAC):
        for found in (True, False):
            known = json.loads(json.dumps([verdict(machine, exact=found)]))
            assert machine_is_proved(machine, known) is found


@pytest.mark.parametrize("other", OTHERS)
def test_a_verdict_on_something_else_is_none(other):
    assert not machine_is_proved(MAC, [verdict(other, exact=True)])
    assert machine_is_proved(CPU, [verdict(other, exact=False)])


def test_the_newest_verdict_counts():
    assert not machine_is_proved(MAC, [verdict(MAC, exact=True), verdict(MAC, exact=False)])
    assert machine_is_proved(MAC, [verdict(MAC, exact=False), verdict(MAC, exact=True)])


@pytest.mark.parametrize("damaged", [{}, {"exact": True}, {"machine": None, "exact": True}, {"machine": MAC.as_json()}])
def test_a_damaged_verdict_proves_nothing(damaged):
    assert not machine_is_proved(MAC, [damaged])


def test_a_doubt_says_which_machine_and_what_to_do():
    unknown, differs = doubt(MAC, []), doubt(MAC, [verdict(MAC, exact=False)])
    for words in (unknown, differs):
        assert "gpu Apple M3 Ultra, Darwin 25.5.0, python 1.0, mlx 1.0, mlx-lm 1.0" in words
        assert words.endswith(f"run: {COMMAND}")
    assert unknown.startswith("nobody has tried")
    assert "differ" in differs


def test_verdicts_are_kept_one_for_each_machine(tmp_path):
    path = tmp_path / "exactness.json"
    assert read_verdicts(path) == []
    for machine, found in ((MAC, False), (CPU, True), (MAC, True)):
        keep_verdict(path, verdict(machine, exact=found))
    kept = [(row["machine"]["system"], row["exact"]) for row in read_verdicts(path)]
    assert kept == [("Linux", True), ("Darwin 25.5.0", True)]
    assert newest_verdict(path, "Darwin 25.5.0", NOW)["exact"] is True
    assert newest_verdict(path, "Darwin 26.0.0", NOW) is None
    assert newest_verdict(path, "Darwin 25.5.0", {**NOW, "mlx": "1.1"}) is None
    for number in range(30):
        keep_verdict(path, verdict(replace(MAC, versions={**NOW, "mlx": f"2.{number}"}), exact=True))
    assert len(read_verdicts(path)) == 20


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"verdicts": 3}', '{"verdicts": [7, null]}'])
def test_a_damaged_file_is_no_verdict(tmp_path, content):
    path = tmp_path / "exactness.json"
    path.write_text(content)
    assert read_verdicts(path) == []
    assert newest_verdict(path, "Linux", NOW) is None


class Fakes:
    """Trainings that make these bytes: Stoker's, and the two stock ones."""

    def __init__(self, **kinds):
        self.kinds, self.order = kinds, []

    def ours(self, kind):
        self.order.append((kind, "ours"))
        return Ours(self.kinds[kind][0], MAC)

    def stock(self, kind, number):
        self.order.append((kind, number))
        return self.kinds[kind][number]


@pytest.mark.parametrize(
    ("full", "lora", "found", "words"),
    [
        ("aaa", "bbb", True, "exact: two stock runs agree with each other here"),
        ("aaa", "bbc", False, "not exact: two stock runs of one configuration differ (lora)"),
        ("abc", "cbb", False, "not exact: two stock runs of one configuration differ (full)"),
        ("aaa", "cbb", False, "not exact: two stock runs agree, but Stoker's trainer, killed once, does not end in"),
    ],
)
def test_exact_means_three_times_the_same_bytes_for_each_kind(full, lora, found, words):
    said = []
    trainings = Fakes(full=full, lora=lora)

    trial = perform(trainings, said.append)

    assert trial.exact is found
    assert trial.words.startswith(words)
    assert ("unproved_machine" in trial.words) is not found
    assert trainings.order == [(kind, who) for kind in ("full", "lora") for who in ("ours", 1, 2)]
    assert len(said) == 6
    kept = trial.verdict("2026-11-22T12:00:00Z")
    assert machine_is_proved(MAC, [kept]) is found
    assert kept["kinds"]["lora"] == {"stock": [lora[1], lora[2]], "ours": lora[0]}


@pytest.fixture(name="verb")
def _verb(tmp_path, monkeypatch):
    """`stoker doctor` in a home of its own, with a trial that ends as wished."""
    app, home = typer.Typer(), Home(tmp_path / "home")

    @app.callback()
    def _main(ctx: typer.Context):
        ctx.obj = home

    app.command(name="doctor")(doctor_verb)

    def verb(*arguments, ours="a"):
        trial = Trial(MAC, (Tried("full", ("a", "a"), ours), Tried("lora", ("b", "b"), "b")))
        monkeypatch.setattr(exact, "_try", lambda *_args, **_options: trial)
        return CliRunner().invoke(app, ["doctor", "--exact", *arguments])

    verb.home = home
    return verb


@pytest.mark.parametrize(("ours", "code", "words"), [("a", 0, "exact: "), ("x", 1, "not exact: ")])
def test_the_verb_keeps_its_verdict_and_says_it_by_its_exit_code(verb, ours, code, words):
    result = verb(ours=ours)
    assert result.exit_code == code, result.output
    assert words in result.stdout
    assert "gpu Apple M3 Ultra" in result.stdout
    assert str(verb.home.exactness) in result.stdout
    assert machine_is_proved(MAC, read_verdicts(verb.home.exactness)) is (code == 0)


def test_the_verb_prints_its_verdict_as_one_json_document(verb):
    result = verb("--json")
    assert json.loads(result.stdout) == read_verdicts(verb.home.exactness)[0]


@pytest.mark.parametrize("python", ["/no/such/python", "/etc/passwd", "/tmp"])
def test_an_interpreter_that_cannot_train_is_refused_and_nothing_is_kept(verb, python):
    result = verb("--python", python)
    assert result.exit_code != 0
    assert python in result.exception.message
    assert "--python" in result.exception.hint
    assert not verb.home.exactness.exists()

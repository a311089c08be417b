"""SIGTERM while the trainer is at something else than an iteration: it ends soon, and nothing it did is lost."""

import signal

import pytest
from harness_trainer import KINDS, TrainerRun, adapters_of, cold_cache, stock, tiny_for_tests

from stoker.recovery.checkpoint.manifest import read

pytestmark = pytest.mark.training

ITERS = 16
TESTED = KINDS["full"] | {"iters": ITERS, "test": True, "test_batches": 2}
NEVER = {"iterations": None, "seconds": None}
exact = pytest.mark.exact


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_for_tests(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def expected(tiny, tmp_path_factory):
    """The test after training changes nothing about the adapters."""
    return adapters_of(stock(tiny, TESTED, tmp_path_factory.mktemp("stock")))


def in_phase(phase, iteration=None):
    return lambda beat: beat["phase"] == phase and iteration in {None, beat["iteration"]}


@pytest.mark.parametrize(
    ("slow", "seen", "stopped", "every"),
    [
        pytest.param("trainer.compile.before:delay=1@1", in_phase("compile"), 1, NEVER, id="compiling", marks=exact),
        pytest.param("trainer.validate.batch:delay=1@1", in_phase("validate"), 0, NEVER, id="validating", marks=exact),
        pytest.param("checkpoint.begin:delay=1@2", None, None, {"iterations": 4, "seconds": None}, id="writing"),
        pytest.param("adapter.save.before:delay=1@1", in_phase("checkpoint"), 10, NEVER, id="saving", marks=exact),
        pytest.param(
            "checkpoint.begin:delay=1@1", in_phase("checkpoint", ITERS), ITERS, NEVER, id="last-checkpoint", marks=exact
        ),
        pytest.param(
            "adapter.final.before:delay=1", in_phase("checkpoint", ITERS), ITERS, NEVER, id="final", marks=exact
        ),
        pytest.param("trainer.validate.batch:delay=1@9", in_phase("test"), ITERS, NEVER, id="testing"),
    ],
)
def test_a_stop_at_any_phase_loses_nothing(slow, seen, stopped, every, tiny, expected, tmp_path):
    run = TrainerRun(tmp_path, tiny, TESTED, every=every)
    attempt = run.launch(failpoints=slow)
    staging = run.folder / "staging"
    met = seen or (lambda _beat: run.checkpoints and any(staging.iterdir()))
    assert attempt.wait_until(met), attempt.log[-3000:]
    attempt.send(signal.SIGTERM)

    code = attempt.wait()

    finals = attempt.of_kind("final")
    assert code == 75 or (code == 0 and finals), attempt.log[-3000:]
    if code == 75:
        assert attempt.of_kind("stopped")[0]["iteration"] == stopped or stopped is None
    if step := attempt.heartbeat()["iteration"] // 2:  # of the accumulation
        newest = read(run.checkpoints[0])
        assert (newest.iteration, newest.step) == (2 * step, step)
    run.check_whole()
    last = run.finish()
    assert last.of_kind("test")
    assert adapters_of(run.adapter) == expected


@exact
@pytest.mark.timeout(1200)
def test_a_stop_while_kernels_are_compiled_loses_nothing(tiny, expected, tmp_path):
    """With a cold cache the first step takes long; the request is honoured at its end."""
    run = TrainerRun(tmp_path, tiny, TESTED)
    with cold_cache(tmp_path) as cold:
        attempt = run.launch(jit=cold)
        assert attempt.wait_until(lambda beat: beat["phase"] == "compile" and any(cold.rglob("*.so"))), attempt.log
        attempt.send(signal.SIGTERM)

        assert attempt.wait() == 75
    assert attempt.of_kind("stopped")[0]["iteration"] <= 1
    run.finish()
    assert adapters_of(run.adapter) == expected

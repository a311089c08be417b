"""What the numbers of a run say, and what they do not say."""

import math

import pytest

from stoker.recovery import series
from stoker.recovery.evidence import Report


def train(*losses, start=10, every=10, speed=500.0):
    return tuple(Report(start + i * every, loss, tokens_per_second=speed) for i, loss in enumerate(losses))


def val(iteration, loss):
    return Report(iteration, val_loss=loss)


def test_the_first_non_finite_train_loss_is_the_onset():
    trouble = series.nonfinite(train(2.0, 1.9, math.nan, math.nan))
    assert trouble.report.iteration == 30
    assert "last finite 1.900 at iteration 20" in trouble.text
    assert series.nonfinite(train(2.0, math.inf)).report.iteration == 20


def test_validation_nan_is_nothing():
    assert series.nonfinite((val(1, math.nan), *train(2.0, 1.9), val(20, math.nan))) is None


def test_no_target_tokens_are_named():
    assert "no target tokens" in series.nonfinite((Report(10, math.nan, trained_tokens=0.0),)).text


def test_only_the_last_launch_of_a_log_counts():
    both = (*train(2.0, math.nan), *train(2.0, 1.9))
    assert series.nonfinite(series.current_run(both)) is None


@pytest.mark.parametrize(
    "losses",
    [
        (2.9, 2.5, 2.6, 2.2, 2.4, 1.9, 2.1, 1.7),  # noisy and falling
        (2.1, 1.4, 1.9, 1.1, 1.6, 0.9, 1.7, 0.8, 1.5),  # very noisy
        (0.3, 0.1, 0.05, 0.15, 0.02, 0.3, 0.4),  # memorised: ratios mean nothing
        (118.2, 91.4, 78.2, 73.6, 70.8, 60.3, 59.7, 57.7),  # a new vocabulary, learning
        (14.6, 14.1, 13.2, 11.0, 9.8, 9.0),
    ],
)
def test_healthy_series_have_no_trouble(losses):
    reports = train(*losses)
    found = [f(reports) for f in (series.frozen, series.diverged, series.spiked, series.slowed, series.swapping)]
    assert found == [None] * 5


def test_losing_good_weights_at_once_is_divergence():
    reports = (val(1, 3.2), *train(6.6, 6.7, 6.5, 6.3, 6.2), val(50, 5.8))
    assert series.diverged(reports).report.iteration == 10


def test_a_harder_training_set_is_not_divergence_when_validation_holds():
    assert series.diverged((val(1, 3.2), *train(5.6, 5.5, 5.4, 5.2), val(40, 2.9))) is None


def test_a_late_rise_waits_for_three_reports():
    good = (2.0, 1.6, 1.4, 1.3, 1.2, 1.2)
    assert series.diverged(train(*good, 4.0, 6.0)) is None
    assert series.diverged(train(*good, 4.0, 6.0, 7.0)).report.iteration == 70


def test_worse_than_guessing_and_not_falling_is_divergence():
    assert series.diverged(train(134, 111, 118, 121, 110, 124, 131, 129)).kind == "diverged"


def test_one_outlier_that_came_back_is_a_spike():
    trouble = series.spiked(train(3.0, 3.1, 2.9, 8.1, 3.0, 3.1))
    assert trouble.report.iteration == 40
    assert series.spiked(train(3.0, 3.1, 2.9, 8.1)) is None, "not confirmed yet"


def test_equal_losses_are_a_collapse_and_from_the_start_dead_weights():
    assert series.frozen((val(1, 8.1), *train(7.7, 7.5, 7.601, 7.601, 7.601, 7.601, 7.601))).kind == "frozen"
    assert series.frozen((val(1, 7.601), *train(7.601, 7.601, 7.601, 7.601))).kind == "dead"
    assert series.frozen(train(*[0.01] * 9)) is None, "a memorised data set may stand still"


def test_throughput_that_stays_down_is_a_slowdown_and_one_gap_is_not():
    assert (
        series.slowed((*train(2.0, 1.9, 1.8, 1.7), *train(1.6, 1.5, 1.4, start=50, speed=90.0))).report.iteration == 50
    )
    assert series.slowed((*train(2.0, 1.9, 1.8), *train(1.7, start=40, speed=2.0), *train(1.6, 1.5, start=50))) is None


def test_growing_memory_with_falling_speed_is_the_road_to_a_kill():
    rows = ((118.2, 82.0), (121.5, 70.0), (126.4, 30.0), (131.0, 6.0))
    growing = tuple(Report(i, 1.0, tokens_per_second=s, peak_memory=m) for i, (m, s) in enumerate(rows))
    assert series.swapping(growing).kind == "swapping"
    steady = tuple(Report(i, 1.0, tokens_per_second=80.0, peak_memory=100 + i / 100) for i in range(4))
    assert series.swapping(steady) is None


def test_memory_that_grows_at_full_speed_is_the_beginning_of_any_run():
    growing = tuple(Report(i, 1.0, tokens_per_second=80.0, peak_memory=2.0 * i) for i in range(1, 5))
    assert series.swapping(growing) is None

import re

import pytest

from stoker.supervisor.paths import RunPaths
from stoker.supervisor.review.course import losses
from stoker.supervisor.review.follow import attempts_on_disk, follow
from stoker.supervisor.review.logs import Tail, Wanted, end_of_log


def texts(lines):
    return [line.text() for line in lines]


@pytest.fixture(name="log")
def _log(tmp_path):
    path = tmp_path / "train.log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(1, 30_001)))
    return path


@pytest.mark.parametrize("last", [1, 2, 100, 29_999])
def test_the_last_lines_with_their_numbers(log, last):
    lines = end_of_log(log, 1, Wanted(last=last))
    assert [line.number for line in lines] == list(range(30_001 - last, 30_001))
    assert texts(lines)[-1] == "line 30000"


@pytest.mark.parametrize("last", [30_000, 30_001, None])
def test_more_lines_than_there_are(log, last):
    assert len(end_of_log(log, 1, Wanted(last=last))) == 30_000


def test_no_lines_at_all(tmp_path, log):
    empty = tmp_path / "empty.log"
    empty.touch()
    assert end_of_log(empty, 1, Wanted()) == []
    assert end_of_log(tmp_path / "gone.log", 1, Wanted()) == []
    assert end_of_log(log, 1, Wanted(last=0)) == []


def test_a_last_line_without_its_end_counts(tmp_path):
    log = tmp_path / "train.log"
    log.write_bytes(b"a\nb\nc")
    assert texts(end_of_log(log, 1, Wanted(last=2))) == ["b", "c"]
    log.write_bytes(b"\n\n\n")
    assert [line.number for line in end_of_log(log, 1, Wanted(last=2))] == [2, 3]


def test_grep_finds_in_the_cleaned_text_and_keeps_the_numbers(tmp_path):
    log = tmp_path / "train.log"
    log.write_bytes(b"Iter 1\n\x1b[32mIter\x1b[0m 2\nother\n10%\rIter 3\n")
    lines = end_of_log(log, 1, Wanted(re.compile("^Iter"), last=None))
    assert [(line.number, line.text()) for line in lines] == [(1, "Iter 1"), (2, "Iter 2"), (4, "Iter 3")]
    assert len(end_of_log(log, 1, Wanted(re.compile("^Iter"), last=2))) == 2


def test_an_endless_line_does_not_fill_the_memory(tmp_path):
    log = tmp_path / "train.log"
    log.write_bytes(b"%|#\r" * 500_000 + b"done")
    tail = Tail(log, 1)
    assert list(tail.read()) == []
    assert len(tail.rest) <= 1 << 16
    assert texts(tail.close()) == ["done"]


def test_a_tail_waits_for_the_end_of_a_line_and_starts_anew_on_a_shorter_file(tmp_path):
    log = tmp_path / "train.log"
    tail = Tail(log, 1)
    assert texts(tail.read()) == []
    log.write_bytes(b"one\ntw")
    assert texts(tail.read()) == ["one"]
    with log.open("ab") as file:
        file.write(b"o\n")
    assert texts(tail.read()) == ["two"]
    log.write_bytes(b"new\n")
    assert [(line.number, line.text()) for line in tail.read()] == [(1, "new")]


class Script:
    """A run that changes while it is followed: each pause performs the next step."""

    def __init__(self, run):
        self.run, self.steps, self.done, self.finished = run, [], False, set()

    def write(self, attempt, data):
        path = self.log(attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(data)

    def attempts(self):
        return attempts_on_disk(self.run)

    def log(self, attempt):
        return self.run.attempt(attempt).log

    def ended(self):
        return self.done

    def over(self, attempt):
        return attempt in self.finished

    def end(self):
        self.done = True

    def pause(self, _seconds):
        self.steps.pop(0)()


@pytest.fixture(name="script")
def _script(tmp_path):
    return Script(RunPaths(tmp_path / "run"))


def test_following_goes_from_one_attempt_to_the_next_and_ends_with_the_run(script):
    script.steps = [
        lambda: script.write(1, b"a1\na2\nhalf"),
        lambda: script.write(1, b" done\nunfinished"),
        lambda: script.write(2, b"b1\n"),
        lambda: (script.write(2, b"b2"), script.end()),
    ]
    lines = [(line.attempt, line.text()) for line in follow(script, Wanted(), pause=script.pause)]
    assert lines == [(1, "a1"), (1, "a2"), (1, "half done"), (1, "unfinished"), (2, "b1"), (2, "b2")]


def test_following_starts_at_the_end_of_the_newest(script):
    script.write(1, b"old\n")
    script.write(2, b"1\n2\n3\n")
    script.steps = [lambda: script.write(2, b"4\n"), script.end]
    lines = list(follow(script, Wanted(last=2), pause=script.pause))
    assert [(line.number, line.text()) for line in lines] == [(2, "2"), (3, "3"), (4, "4")]


def test_following_one_attempt_ends_with_it(script):
    script.write(1, b"1\n")
    script.write(2, b"2\n")
    script.steps = [lambda: (script.write(1, b"last\n"), script.finished.add(1))]
    assert texts(follow(script, Wanted(), pause=script.pause, only=1)) == ["1", "last"]


def test_following_an_ended_run_without_attempts_ends(script):
    script.done = True
    assert list(follow(script, Wanted(), pause=script.pause)) == []


def test_following_with_a_pattern(script):
    script.write(1, b"Iter 1\nx\nIter 2\nIter 3\n")
    script.steps = [lambda: script.write(1, b"y\nIter 4\n"), script.end]
    lines = follow(script, Wanted(re.compile("Iter"), last=2), pause=script.pause)
    assert texts(lines) == ["Iter 2", "Iter 3", "Iter 4"]


def test_attempt_folders_are_numbers_in_order(script):
    for name in ("10", "2", "1", "tmp", "x1"):
        (script.run.attempts / name).mkdir(parents=True)
    assert attempts_on_disk(script.run) == [1, 2, 10]


def test_the_course_of_the_loss_spans_attempts_and_bears_torn_lines(tmp_path):
    run = RunPaths(tmp_path)
    for attempt, rows in (
        (1, '{"kind":"train","train_loss":3.0}\n{"kind":"train","train_loss":2.5}\n'),
        (2, 'nonsense "train"\n{"kind":"val","val_loss":9}\n{"kind":"train","train_loss":2.0}\n{"kind":"train","tr'),
        (3, '["train"]\n{"kind":"train","train_loss":"nan"}\n'),
    ):
        run.attempt(attempt).dir.mkdir(parents=True)
        run.attempt(attempt).metrics.write_text(rows)
    assert losses(run, 3) == [3.0, 2.5, 2.0]
    assert losses(run, 2, enough=1) == [2.0]
    assert losses(run, 0) == []

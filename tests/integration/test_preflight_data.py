import errno
import json
import os
import sys

import pytest
from harness_preflight import ROWS, failed, write_lines

from stoker.profiles.facts import TrainerDefaults
from stoker.supervisor import preflight
from stoker.supervisor.data_folder import check_data, read_examples


class TestData:
    def test_a_file_instead_of_its_folder(self, judge, place):
        check = failed(judge(head="model: model\ndata: data/train.jsonl\n"))["data"]
        assert check.fix == f"name its folder: data: {place / 'data'}"

    def test_no_training_set(self, judge, place):
        (place / "data" / "train.jsonl").rename(place / "data" / "train.parquet")
        assert "train.parquet" in failed(judge())["data"].detail

    def test_an_empty_one(self, judge, place):
        (place / "data" / "train.jsonl").write_text("", encoding="utf-8")
        assert "is empty" in failed(judge())["data"].detail

    def test_no_validation_set_is_a_warning(self, judge, place):
        (place / "data" / "valid.jsonl").unlink()
        found = judge()
        assert found.ok
        assert any("without validation" in str(problem) for problem in found.warnings)

    def test_a_small_validation_set(self, judge, place):
        write_lines(place / "data" / "valid.jsonl", ROWS[:3])
        assert "valid.jsonl only 3" in failed(judge())["batch-size"].detail

    def test_a_small_test_set_is_a_warning(self, judge, place):
        write_lines(place / "data" / "test.jsonl", ROWS[:3])
        assert judge("test: true\n").ok
        assert judge("test: true\n").resolved.test

    @pytest.mark.parametrize(
        ("line", "place_and_part"),
        [
            ('{"text": "a"', "train.jsonl:3:13: not JSON"),
            ("", "train.jsonl:3:1: an empty line"),
            ("[1]", "train.jsonl:3:1: expected a JSON object"),
            ('{"txt": "a"}', 'train.jsonl:3:1: no "text", which the first line has'),
            ('{"text": 5}', 'train.jsonl:3:1: "text" is not text'),
            ('{"text": ' + "9" * 5000 + "}", "train.jsonl:3:1: "),
            ("[" * 100_000, "train.jsonl:3:1: "),
        ],
    )
    def test_broken_lines(self, place, line, place_and_part):
        lines = [json.dumps(ROWS[0]), json.dumps(ROWS[1]), line, json.dumps(ROWS[2])]
        path = place / "data" / "train.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        found = read_examples(path, {}, 4)
        assert len(found.problems) == 1
        assert found.problems[0].startswith(place_and_part)

    def test_broken_lines_can_be_allowed(self, judge, place):
        (place / "data" / "train.jsonl").write_text("nonsense\n" * 12, encoding="utf-8")
        found = failed(judge())["data-format"]
        assert "train.jsonl:1:1: not JSON" in found.detail
        assert "(and 9 more)" in found.detail
        assert judge("stoker: {preflight: {allow: [data-format]}}\n").ok

    def test_not_utf_8(self, place):
        path = place / "data" / "train.jsonl"
        path.write_bytes(b'{"text": "caf\xe9"}\n')
        assert read_examples(path, {}, 1).problems == ("train.jsonl:1:14: not UTF-8",)

    @pytest.mark.parametrize(
        ("row", "style"),
        [
            ({"messages": [{"role": "user", "content": "a"}]}, "chat"),
            ({"prompt": "a", "completion": "b"}, "completions"),
            ({"prompt": "a", "text": "b"}, "text"),
            ({"question": "a"}, None),
        ],
    )
    def test_styles(self, place, row, style):
        path = place / "data" / "train.jsonl"
        write_lines(path, [row])
        found = read_examples(path, {}, 1)
        assert (found.style, bool(found.problems)) == (style, style is None)

    def test_names_that_the_job_gives(self, place):
        path = place / "data" / "train.jsonl"
        write_lines(path, [{"question": "a", "answer": "b"}])
        found = read_examples(path, {"prompt_feature": "question", "completion_feature": "answer"}, 1)
        assert found.style == "completions"

    def test_masking_text_is_refused_as_mlx_lm_does(self, judge):
        assert "mask_prompt" in failed(judge("mask_prompt: true\n"))["data-format"].detail

    def test_a_copy_that_was_cut_off_shows_at_the_end_of_a_large_file(self, place):
        path = place / "data" / "train.jsonl"
        write_lines(path, [{"text": f"line {n}"} for n in range(5000)])
        assert read_examples(path, {}, 4000).problems == ()
        assert read_examples(path, {}, 4000).count == 4000
        with path.open("ab") as file:
            file.write(b'{"text": "half')
        assert "the last line" in read_examples(path, {}, 1).problems[0]

    def test_data_of_the_hub_is_left_to_mlx_lm(self, judge, monkeypatch):
        values = {"iters": 9, "save_every": 3, "fine_tune_type": "lora", "batch_size": 1}
        defaults = TrainerDefaults(
            values, {"mlx_lm": "0.32"}, sys.executable, packages=frozenset({"datasets"}), backends=("mlx-cpu",)
        )
        monkeypatch.setattr(preflight, "trainer_defaults", lambda _python, _cache: defaults)
        found = judge(head="model: model\ndata: org/set\n")
        assert found.ok
        assert [check.verdict for check in found.checks if check.name == "data"] == ["warn"]

    def test_a_closed_folder(self, place, monkeypatch):
        def closed(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(os, "listdir", closed)
        (check,) = check_data(place / "data", {}, test=False)
        assert "Permission denied" in check.detail

import errno
import json
import os
import sys
from pathlib import Path

import pytest
from harness_preflight import CONFIG, failed

from stoker.profiles.facts import TrainerDefaults
from stoker.supervisor import machine_checks, preflight
from stoker.supervisor.checks import explain_access
from stoker.supervisor.jobs import job_record
from stoker.supervisor.model_folder import cached_snapshot, read_model


def test_a_good_job_passes_every_check(judge, place):
    found = judge("fine_tune_type: full\n")
    assert found.ok, list(map(str, found.problems))
    assert {check.verdict for check in found.checks} == {"pass"}
    assert found.problems == ()
    assert found.resolved.config["num_layers"] == 4
    assert found.resolved.config["model"] == str(place / "model")
    assert (found.model.num_hidden_layers, found.model.model_type, found.model.dtype) == (4, "qwen3", "BF16")
    assert found.model.size_bytes == (16 * 4 + 4 * 8 * 4) * 2
    assert found.model.tied
    assert found.need.checkpoint == 3 * found.model.size_bytes


def test_a_failed_check_stands_at_the_key_it_is_about(judge):
    found = judge("batch_size: 500\n")
    assert not found.ok
    (problem,) = found.errors
    assert (problem.line, problem.column) == (3, 13)
    assert "only 12" in str(problem)


def test_wrong_text_is_not_checked_against_the_machine(judge):
    found = judge("itres: 5\n")
    assert found.job is None
    assert found.checks == ()
    assert not found.ok


def test_an_interpreter_that_cannot_train_is_named_with_all_other_mistakes(judge):
    found = judge("itres: 5\nstoker: {python: ./no/python}\n")
    assert not found.ok
    assert [problem.line for problem in found.errors] == [3, 4]
    assert "there is no interpreter" in str(found.errors[1])


def test_a_command_needs_no_interpreter_and_no_model(judge):
    text = "stoker: {trainer: command, command: [sh, -c, 'exit 0']}\n"
    found = judge(text, head="iters: 3\n", python=Path("/nowhere"))
    assert found.ok, list(map(str, found.problems))


class TestModel:
    def test_a_misspelt_folder(self, judge, place):
        check = failed(judge(head="model: modle\ndata: data\n"))["model"]
        assert check.detail == f"{place / 'modle'} does not exist"
        assert str(place / "model") in check.fix

    def test_a_missing_parent(self, judge, place):
        check = failed(judge(head=f"model: {place}/no/such/model\ndata: data\n"))["model"]
        assert f"there is no no in {place}" in check.detail

    def test_an_unmounted_volume(self, judge, monkeypatch):
        monkeypatch.setattr("os.path.lexists", lambda path: str(path) in {"/Volumes", "/"})
        monkeypatch.setattr("os.path.isdir", lambda path: str(path) in {"/Volumes", "/"})
        detail, fix = explain_access(OSError(errno.ENOENT, "x"), Path("/Volumes/Models/qwen3"))
        assert detail == "/Volumes/Models is not mounted, so /Volumes/Models/qwen3 is not there"
        assert "mount" in fix

    def test_a_file(self, judge):
        assert "is a file" in failed(judge(head="model: model/config.json\ndata: data\n"))["model"].detail

    def test_no_config(self, judge, place):
        (place / "model" / "config.json").unlink()
        assert "no config.json" in failed(judge())["model"].detail

    @pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000])
    def test_a_broken_config(self, judge, place, text):
        (place / "model" / "config.json").write_text(text, encoding="utf-8")
        assert "not a JSON object" in failed(judge())["model"].detail

    def test_no_weights(self, judge, place):
        (place / "model" / "model.safetensors").rename(place / "model" / "pytorch_model.bin")
        assert "convert" in failed(judge())["model"].fix
        (place / "model" / "pytorch_model.bin").unlink()
        assert "no weights" in failed(judge())["model"].detail

    def test_no_tokenizer_is_a_warning(self, judge, place):
        (place / "model" / "tokenizer.json").unlink()
        found = judge()
        assert found.ok
        assert any("tokenizer" in str(problem) for problem in found.warnings)

    def test_a_truncated_download(self, judge, place):
        file = place / "model" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
        assert "truncated" in failed(judge())["weights"].detail

    def test_a_missing_shard(self, judge, place):
        index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
        (place / "model" / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
        assert "model-00002-of-00002.safetensors is missing" in failed(judge())["weights"].detail

    def test_layers_of_a_model_with_a_text_part(self, place):
        config = {"model_type": "gemma3", "text_config": {"num_hidden_layers": 9}}
        (place / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        facts, _ = read_model(place / "model")
        assert facts.num_hidden_layers == 9

    def test_a_quantized_model_cannot_be_fine_tuned_in_full(self, judge, place):
        config = {**CONFIG, "quantization": {"bits": 4, "group_size": 64}}
        (place / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        assert "4-bit" in failed(judge("fine_tune_type: full\n"))["quantized-full"].detail
        assert judge("fine_tune_type: lora\n").ok

    def test_a_model_of_the_hub(self, judge, place):
        found = judge(head="model: org/name\ndata: ./data\n")
        assert found.ok
        assert any("downloaded" in str(problem) for problem in found.warnings)
        repository = place / ".cache" / "huggingface" / "hub" / "models--org--name"
        commit = "0123456789abcdef0123456789abcdef01234567"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit, encoding="ascii")
        (repository / "snapshots").mkdir()
        (place / "model").rename(repository / "snapshots" / commit)
        assert judge(head="model: org/name\ndata: ./data\n").model.num_hidden_layers == 4
        environment = {"HF_HOME": str(place / ".cache" / "huggingface")}
        assert cached_snapshot("org/name", environment, Path("/nowhere")).name == commit
        (repository / "refs" / "main").write_text("../../../etc", encoding="ascii")
        assert cached_snapshot("org/name", {}, place) is None


class TestLayers:
    def test_only_the_top_layers_is_refused_unless_it_is_meant(self, judge):
        found = judge("fine_tune_type: full\nnum_layers: 2\n")
        assert "only the top layers" in failed(found)["num-layers"].detail
        assert found.errors[0].line == 4
        allowed = judge("fine_tune_type: full\nnum_layers: 2\nstoker: {preflight: {allow: [num-layers]}}\n")
        assert allowed.ok
        assert [check.name for check in allowed.checks if check.verdict == "overridden"] == ["num-layers"]

    def test_more_layers_than_there_are_cannot_be_meant(self, judge):
        text = "num_layers: 9\nstoker: {preflight: {allow: [num-layers]}}\n"
        assert "too-many-layers" in failed(judge(text))


class TestAccess:
    def test_macos_privacy_is_not_a_matter_of_modes(self, monkeypatch):
        monkeypatch.setattr(sys, "platform", "darwin")
        detail, fix = explain_access(
            PermissionError(errno.EPERM, "Operation not permitted"), Path("/Users/me/Documents/m")
        )
        assert "Operation not permitted" in detail
        assert "Full Disk Access" in fix

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_the_folder_that_is_closed_is_named(self, tmp_path):
        (tmp_path / "closed" / "in").mkdir(parents=True)
        (tmp_path / "closed").chmod(0)
        detail, _ = explain_access(PermissionError(errno.EACCES, "x"), tmp_path / "closed" / "in")
        assert str(tmp_path / "closed") in detail
        (tmp_path / "closed").chmod(0o700)

    @pytest.mark.parametrize(
        ("number", "part"),
        [
            (errno.EIO, "does not answer"),
            (errno.ESTALE, "does not answer"),
            (errno.ELOOP, "itself"),
            (errno.EBUSY, "busy"),
        ],
    )
    def test_others(self, number, part):
        assert part in explain_access(OSError(number, os.strerror(number)), Path("/x"))[0]

    def test_a_file_in_the_way(self, tmp_path):
        (tmp_path / "file").touch()
        assert "is a file" in explain_access(NotADirectoryError(errno.ENOTDIR, "x"), tmp_path / "file" / "x")[0]

    def test_a_link_to_nothing(self, tmp_path):
        (tmp_path / "link").symlink_to("/Volumes/gone")
        assert "/Volumes/gone" in explain_access(FileNotFoundError(errno.ENOENT, "x"), tmp_path / "link" / "x")[0]


class TestRoom:
    def test_a_full_disk_is_refused_unless_it_is_meant(self, judge, monkeypatch):
        monkeypatch.setattr(machine_checks, "free_bytes", lambda _path: 100)
        check = failed(judge("fine_tune_type: full\n"))["disk-space"]
        assert "raise save_every" in check.fix
        assert "make room" in check.fix
        assert judge("fine_tune_type: full\nstoker: {preflight: {allow: [disk-space]}}\n").ok

    # A checkpoint of the model has 1,152 bytes, its weights 384; with these keys there is one save.
    FULL = "fine_tune_type: full\niters: 40\nsave_every: 100\n"

    @pytest.mark.parametrize(("free", "keep"), [(5 * 1152 + 384, 3), (5 * 1152 + 383, 2), (3 * 1152 + 384, 1)])
    def test_fewer_checkpoints_are_kept_where_only_fewer_fit(self, judge, monkeypatch, free, keep):
        monkeypatch.setattr(machine_checks, "free_bytes", lambda _path: free + 7)
        found = judge(self.FULL, min_free=7)
        assert found.ok, list(map(str, found.problems))
        assert (found.need.keep, job_record(found, {}, None)["keep"]) == (keep, keep)
        changes = [(change["field"], change["from"], change["to"]) for change in found.resolved.adjustments]
        assert changes == ([("stoker.checkpoint.keep", 3, keep)] if keep < 3 else [])
        assert all("auto: only 0.0" in change["reason"] for change in found.resolved.adjustments)

    def test_two_volumes_leave_all_the_room_to_checkpoints(self, judge, monkeypatch):
        monkeypatch.setattr(machine_checks, "_device", lambda path: "adapter" in path.name)
        monkeypatch.setattr(machine_checks, "free_bytes", lambda _path: 5 * 1152)
        assert judge(self.FULL + "adapter_path: adapter\n").need.keep == 3

    def test_a_number_that_the_job_names_is_kept_or_refused(self, judge, monkeypatch):
        monkeypatch.setattr(machine_checks, "free_bytes", lambda _path: 3 * 1152 + 384)
        check = failed(judge(self.FULL + "stoker: {checkpoint: {keep: 2}}\n"))["disk-space"]
        assert "4 checkpoints of 0.00 MB: 2 kept, 1 from before a suspected fault, 1 being written" in check.detail
        assert "keep: auto" in check.fix
        assert judge(self.FULL + "stoker: {checkpoint: {keep: 1}}\n").ok

    def test_one_that_cannot_fit_is_refused(self, judge, monkeypatch):
        monkeypatch.setattr(machine_checks, "free_bytes", lambda _path: 3 * 1152 + 383)
        check = failed(judge(self.FULL))["disk-space"]
        assert "1 kept" in check.detail
        assert check.fix == "make room: 0.00 MB more"

    def test_what_must_stay_free_counts(self, judge):
        assert "disk-space" in failed(judge(min_free=10**18))

    def test_two_volumes_are_counted_apart(self, judge, monkeypatch):
        monkeypatch.setattr(machine_checks, "_device", lambda path: "adapter" in path.name)
        found = judge("fine_tune_type: full\nadapter_path: adapter\n")
        details = [check.detail for check in found.checks if check.name == "disk-space"]
        assert len(details) == 2
        assert "checkpoints" in details[0]
        assert "save" in details[1]


class TestOthers:
    def test_services_that_are_not_installed(self, judge):
        check = failed(judge("report_to: wandb,swanlab\n"))["report-to"]
        assert check.fix.endswith("-m pip install wandb swanlab")

    @pytest.mark.parametrize(
        "text",
        [
            "resume_adapter_file: no.safetensors\n",
            "stoker: {recovery: {rules: no.yaml}}\n",
            "stoker: {recovery: {policies: no.yaml}}\n",
            "stoker: {distributed: {workers: 2, hostfile: no.json}}\n",
        ],
    )
    def test_files_that_are_not_there(self, judge, text):
        assert "does not exist" in failed(judge(text))["files"].detail

    def test_a_damaged_adapter_to_start_from(self, judge, place):
        (place / "a.safetensors").write_bytes(b"1234")
        assert "too short" in failed(judge("resume_adapter_file: a.safetensors\n"))["files"].detail

    @pytest.mark.parametrize("program", ["no-such-program", "./no-such-program"])
    def test_programs_that_are_not_there(self, judge, program):
        text = f"stoker: {{notify: {{command: [{program}]}}}}\n"
        assert "there is no program" in failed(judge(text))["command"].detail

    def test_a_program_without_the_bit(self, judge, place):
        (place / "hook").touch(mode=0o644)
        assert "chmod +x" in failed(judge("stoker: {notify: {command: [./hook]}}\n"))["command"].fix

    def test_an_adapter_path_that_is_a_file(self, judge):
        assert "is not a folder" in failed(judge("adapter_path: model/config.json\n"))["adapter-path"].detail

    @pytest.mark.parametrize(
        ("versions", "backends", "name"),
        [
            ({"python": "3.10.2", "mlx_lm": "0.32.0"}, ("mlx-cpu",), "interpreter"),
            ({"python": "3.12.2", "mlx_lm": "0.29.9"}, ("mlx-cpu",), "trainer-version"),
        ],
    )
    def test_versions(self, judge, monkeypatch, versions, backends, name):
        self.replace(monkeypatch, versions, backends)
        assert name in failed(judge())

    @pytest.mark.skipif(sys.platform != "linux", reason="Metal comes with mlx")
    def test_mlx_without_a_backend(self, judge, monkeypatch):
        self.replace(monkeypatch, {"python": "3.12.2", "mlx_lm": "0.32.0.dev1"}, ())
        assert "no backend" in failed(judge())["interpreter"].detail

    @staticmethod
    def replace(monkeypatch, versions, backends):
        values = {"iters": 9, "save_every": 3, "fine_tune_type": "lora", "batch_size": 1}
        defaults = TrainerDefaults(values, versions, sys.executable, backends=backends)
        monkeypatch.setattr(preflight, "trainer_defaults", lambda _python, _cache: defaults)


@pytest.mark.parametrize("length", [255, 5000])
def test_paths_that_are_too_long_do_not_raise(judge, length):
    name = "x" * length
    found = judge(
        f"adapter_path: {name}\nresume_adapter_file: {name}\n", head=f"model: {name[:4000]}\ndata: {name[:4000]}\n"
    )
    assert not found.ok

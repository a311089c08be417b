"""The frozen inputs of a run: what is compared with the first load, and what is said about a difference."""

import json

import pytest

from stoker.supervisor.trainer.inputs import agree
from stoker.supervisor.trainer.outcomes import Fault

VERSIONS = {"python": "3.12.1", "mlx": "0.32.4", "transformers": "5.1.0"}
HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'


@pytest.fixture(name="run")
def _run(tmp_path):
    """A model and data on the disk; `run()` is what an attempt does before it loads them."""
    model, data = tmp_path / "model", tmp_path / "data"
    model.mkdir()
    data.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(len(HEADER).to_bytes(8, "little") + HEADER + b"\0\0\0\0")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"):
        (model / name).write_text(name)
    (model / "chat_template.jinja").write_text("{{ messages }}")
    (model / "README.md").write_text("read me")
    (data / "train.jsonl").write_text('{"text": "a"}\n')

    def run(*, accept=False, versions=VERSIONS):
        return agree(tmp_path / "inputs.json", str(model), str(data), versions, lambda _: model, accept_changed=accept)

    run.model, run.data, run.file = model, data, tmp_path / "inputs.json"
    return run


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "chat_template.jinja",
    ],
)
def test_what_makes_other_tokens_of_the_data_is_a_difference(run, name):
    run()
    assert run().accepted == ()
    (run.model / name).write_text("something else")
    with pytest.raises(
        Fault, match=rf"inputs changed: model file {name}: [0-9a-f]{{12}} at the first load, [0-9a-f]{{12}} now$"
    ):
        run()


def test_a_file_that_comes_or_goes_is_a_difference(run):
    run()
    (run.model / "added_tokens.json").write_text("{}")
    (run.model / "merges.txt").unlink()
    (run.data / "valid.jsonl").write_text('{"text": "b"}\n')
    with pytest.raises(Fault) as raised:
        run()
    assert "model file added_tokens.json: absent at the first load" in raised.value.what
    assert "absent now" in raised.value.what
    assert "data valid.jsonl: absent at the first load" in raised.value.what


def test_a_file_that_training_does_not_read_is_none(run):
    run()
    (run.model / "README.md").write_text("read me twice")
    assert run().accepted == ()


@pytest.mark.parametrize("size", [b"\0\0\0\0\0", b"\0\0\0"])
def test_weights_of_another_size_are_a_difference(run, size):
    run()
    (run.model / "model.safetensors").write_bytes(len(HEADER).to_bytes(8, "little") + HEADER + size)
    with pytest.raises(Fault, match="fingerprint"):
        run()


def test_another_version_is_named_with_both_values(run):
    run()
    with pytest.raises(Fault, match=r"version of mlx: 0\.32\.4 at the first load, 0\.33\.0 now"):
        run(versions={**VERSIONS, "mlx": "0.33.0"})


def test_what_was_accepted_once_stays_in_the_label(run):
    """An attempt may be killed right after it froze the new inputs: the label must not be lost with it."""
    run()
    (run.data / "train.jsonl").write_text('{"text": "b"}\n')
    first = run(accept=True)
    assert len(first.accepted) == 1
    assert first.accepted[0].startswith("data train.jsonl: ")
    assert run().accepted == first.accepted

    (run.model / "vocab.json").write_text("other")
    assert [text.split(":")[0] for text in run(accept=True).accepted] == ["data train.jsonl", "model file vocab.json"]


def test_a_document_of_an_older_stoker_is_completed(run):
    """It knows no files of the model and fewer versions: what it does not know counts as unchanged, once."""
    run(versions={"python": "3.12.1", "mlx": "0.32.4"})
    document = json.loads(run.file.read_bytes())
    del document["files"]
    run.file.write_text(json.dumps(document))

    assert run().accepted == ()

    assert set(json.loads(run.file.read_bytes())["files"]) >= {"tokenizer.json", "chat_template.jinja"}
    (run.model / "tokenizer.json").write_text("other")
    with pytest.raises(Fault, match=r"tokenizer\.json"):
        run()
    with pytest.raises(Fault, match="version of transformers"):
        run(versions={**VERSIONS, "transformers": "6.0"})

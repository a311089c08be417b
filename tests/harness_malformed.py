"""Malformed job files: name, bytes, the line that a message must name, and a part of that message."""

from typing import NamedTuple

HEAD = b"model: org/model\nhf_dataset: {path: org/data}\n"  # two lines of a job that needs nothing else


class Malformed(NamedTuple):
    name: str
    data: bytes
    line: int
    part: str


def _after_head(name: str, text: str, line: int, part: str) -> Malformed:
    """`line` counts from 1 after the head."""
    return Malformed(name, HEAD + text.encode(), line + 2, part)


def _bomb(levels: int) -> bytes:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(rows).encode()


def _nested(depth: int, anchor: str, inner: str) -> bytes:
    return f"k{depth}: {anchor}{'[' * depth}{inner}{']' * depth}\n".encode()


TEXTS = [
    Malformed("empty", b"", 1, "empty"),
    Malformed("only a comment", b"# nothing\n", 1, "empty"),
    Malformed("only a document start", b"---\n", 1, "empty"),
    Malformed("only white space", b"   \n\n", 1, "empty"),
    Malformed("null", b"null\n", 1, "single value"),
    Malformed("a list", b"- model: x\n", 1, "a list"),
    Malformed("a sentence", b"please train my model\n", 1, "single value"),
    Malformed("two documents", b"model: a/b\n---\nmodel: c/d\n", 2, "second document"),
    Malformed("NUL byte", b"model: a/b\ndata: x\0y\n", 2, "control character"),
    Malformed("binary", bytes(range(256)), 2, ""),
    Malformed("a gzip file", b"\x1f\x8b\x08\x00" + b"\xff" * 40, 1, ""),
    Malformed("Latin-1", "model: a/b\nstoker: {name: caf\xe9}\n".encode("latin-1"), 2, "UTF-8"),
    Malformed("UTF-16", "model: a/b\n".encode("utf-16"), 1, "UTF-8"),
    Malformed("too large", b"# " + b"x" * 1_000_001, 1, "bytes"),
    Malformed("tab", b"model: a/b\n\tdata: c/d\n", 2, "tabs"),
    Malformed("open bracket", b"model: [a\n", 1, "not YAML"),
    Malformed("open quote", b'model: "a\ndata: b\n', 1, "not YAML"),
    Malformed("colon in a value", b"model: a: b\n", 1, "quote"),
    Malformed("bad indentation", b"model: a/b\n  data: c/d\n", 2, "not YAML"),
    Malformed("at sign", b"model: @a\n", 1, "not YAML"),
    Malformed("unknown anchor", b"model: *nothing\n", 1, "alias"),
    Malformed("alias in its own anchor", b"stoker: &s {env: {A: *s}}\n", 1, "own anchor"),
    Malformed("alias bomb", _bomb(9), 4, "values"),
    Malformed("deep flow list", b"x: " + b"[" * 3000 + b"]" * 3000, 1, "deep"),
    Malformed("deep flow mapping", b"x: " + b"{a: " * 3000 + b"}" * 3000, 1, "deep"),
    Malformed("deep block", b"".join(b" " * n + b"a:\n" for n in range(200)), 40, "deep"),
    Malformed("depth through aliases", _nested(30, "&a ", "x") + _nested(15, "", "*a"), 2, "deep"),
    Malformed("many keys", b"".join(b"k%d: 1\n" % n for n in range(9000)), 5000, "values"),
    Malformed("python object", HEAD + b"x: !!python/object/apply:os.system [ls]\n", 3, "tag"),
    Malformed("python name", HEAD + b"x: !!python/name:os.system\n", 3, "tag"),
    Malformed("own tag", HEAD + b"iters: !count 3\n", 3, "tag"),
    Malformed("binary tag", HEAD + b"x: !!binary aGVsbG8=\n", 3, "tag"),
    Malformed("set tag", HEAD + b"x: !!set {a, b}\n", 3, "tag"),
    Malformed("wrong int tag", HEAD + b'iters: !!int "many"\n', 3, "int"),
    Malformed("escaped NUL", b'model: "a\\0b"\n', 1, "NUL"),
    Malformed("escaped surrogate", b'model: "a\\ud800b"\n', 1, ""),
    Malformed("escape beyond Unicode", b'model: "\\UFFFFFFFF"\n', 1, ""),
    Malformed("duplicate key", HEAD + b"iters: 1\niters: 2\n", 4, "duplicate key iters (first at line 3)"),
    Malformed("duplicate nested key", HEAD + b"stoker:\n  name: a\n  name: b\n", 5, "duplicate key name (first at line 4)"),
    Malformed("duplicate merge", HEAD + b"x: &x {a: 1}\ny:\n  <<: *x\n  <<: *x\n", 6, "duplicate key <<"),
    Malformed("merge of text", HEAD + b"y:\n  <<: text\n", 4, "mapping"),
    Malformed("key on", HEAD + b"on: 1\n", 3, "quotes"),
    Malformed("number as key", HEAD + b"1: 1\n", 3, "quotes"),
    Malformed("list as key", HEAD + b"? [a, b]\n: 1\n", 3, "key"),
    Malformed("no model", b"data: /data\n", 1, "model is missing"),
    Malformed("no data", b"model: a/b\n", 1, "data (or hf_dataset) is missing"),
]  # fmt: skip

KEYS = [
    _after_head("misspelt", "itres: 100\n", 1, "did you mean iters?"),
    _after_head("dashes", "batch-size: 4\n", 1, "did you mean batch_size?"),
    _after_head("capitals", "Iters: 4\n", 1, "did you mean iters?"),
    _after_head("name of another program", "lr: 1e-5\n", 1, "did you mean learning_rate?"),
    _after_head("old name", "lora_layers: 4\n", 1, "did you mean num_layers?"),
    _after_head("misspelt stoker", "stokr: {name: a}\n", 1, "did you mean stoker?"),
    _after_head("config", "config: other.yaml\n", 1, "config"),
]

VALUES = [
    _after_head("text for a number", 'iters: "100"\n', 1, "without quotes"),
    _after_head("float for a count", "iters: 1e3\n", 1, "write 1000"),
    _after_head("zero iters", "iters: 0\n", 1, "1 or more"),
    _after_head("negative batch", "batch_size: -4\n", 1, "1 or more"),
    _after_head("true for a count", "batch_size: true\n", 1, "whole number, got true"),
    _after_head("list for a number", "iters: [1]\n", 1, "a list"),
    _after_head("huge number", f"iters: {'9' * 120}\n", 1, "or less"),
    _after_head("number beyond reading", f"iters: {'9' * 6000}\n", 1, "whole number"),
    _after_head("zero learning rate", "learning_rate: 0\n", 1, "greater than 0"),
    _after_head("negative learning rate", "learning_rate: -1e-5\n", 1, "greater than 0"),
    _after_head("infinite learning rate", "learning_rate: .inf\n", 1, "finite"),
    _after_head("nan learning rate", "learning_rate: .nan\n", 1, ""),
    _after_head("quoted learning rate", 'learning_rate: "1e-5"\n', 1, "a number"),
    _after_head("fine_tune_type", "fine_tune_type: ful\n", 1, "did you mean full?"),
    _after_head("optimizer", "optimizer: adamx\n", 1, "did you mean adam"),
    _after_head("optimizer_config", "optimizer_config: [adam]\n", 1, "mapping"),
    _after_head("report_to", "report_to: wandbb\n", 1, "did you mean wandb?"),
    _after_head("val_batches", "val_batches: -2\n", 1, "-1 or more"),
    _after_head("num_layers", "num_layers: all\n", 1, "whole number"),
    _after_head("save_every", "save_every: 0\n", 1, "1 or more"),
    _after_head("train false", "train: false\n", 1, "train"),
    _after_head("train text", "train: please\n", 1, "true or false"),
    _after_head("seed", "seed: -1\n", 1, "0 or more"),
    _after_head("no steps", "iters: 4\ngrad_accumulation_steps: 8\n", 2, "never make a step"),
    _after_head("lora as text", "lora_parameters: big\n", 1, "mapping"),
    _after_head("lora alpha", "lora_parameters: {rank: 8, alpha: 16, dropout: 0.0}\n", 1, "scale is missing"),
    _after_head("lora dropout", "lora_parameters: {rank: 8, scale: 1.0, dropout: 1.5}\n", 1, "less than 1"),
    _after_head("lora keys", "lora_parameters: {rank: 8, scale: 1.0, dropout: 0.0, keys: q_proj}\n", 1, "a list"),
    _after_head("schedule as text", "lr_schedule: cosine_decay\n", 1, "mapping"),
    _after_head("schedule without arguments", "lr_schedule: {name: cosine_decay}\n", 1, "arguments is missing"),
    _after_head("schedule name", "lr_schedule: {name: cosin_decay, arguments: [1e-5, 100]}\n", 1, "expected one of"),
    _after_head("schedule too short", "lr_schedule: {name: cosine_decay, arguments: [1e-5]}\n", 1, "2 to 3 arguments"),
    _after_head("schedule steps", "lr_schedule: {name: cosine_decay, arguments: [1e-5, 0]}\n", 1, "decay_steps"),
    _after_head("schedule text", 'lr_schedule:\n  name: cosine_decay\n  arguments: ["1e-5", 10]\n', 3, "a number"),
    _after_head("hub without path", "hf_dataset: {name: billsum}\n", 1, "duplicate"),
    _after_head("relative adapter", "adapter_path: out\n", 1, "relative path"),
    _after_head("home of another", "adapter_path: ~root/out\n", 1, "full path"),
    _after_head("path over lines", "adapter_path: |\n  /a\n  /b\n", 1, "printable"),
    _after_head("empty path", "adapter_path: ''\n", 1, "nothing"),
]

STOKER = [
    _after_head("stoker as list", "stoker: [name]\n", 1, "mapping"),
    _after_head("misspelt", "stoker:\n  nmae: a\n", 2, "did you mean name?"),
    _after_head("unknown", "stoker:\n  colour: red\n", 2, "known here"),
    _after_head("name no", "stoker:\n  name: no\n", 2, "quotes"),
    _after_head("trainer", "stoker: {trainer: mlxlm}\n", 1, "did you mean mlx-lm?"),
    _after_head("later trainer", "stoker: {trainer: realign}\n", 1, "command (any command"),
    _after_head("command of another", "stoker: {command: [/bin/true]}\n", 1, "trainer: command"),
    _after_head("no command", "stoker: {trainer: command}\n", 1, "command is missing"),
    _after_head("command as text", "stoker: {trainer: command, command: ls -l}\n", 1, "a list"),
    _after_head("empty command", "stoker: {trainer: command, command: []}\n", 1, "at least one"),
    _after_head("placeholder", 'stoker: {trainer: command, command: [x, "{itrs}"]}\n', 1, "{iters}"),
    _after_head("value of placeholder", 'stoker: {trainer: command, command: [x, "{iters}"]}\n', 1, "does not say"),
    _after_head("relative command", "stoker: {trainer: command, command: [./x]}\n", 1, "relative path"),
    _after_head("bare python", "stoker: {python: python3}\n", 1, "full path"),
    _after_head("every", "stoker: {checkpoint: {every: often}}\n", 1, "auto"),
    _after_head("every zero", "stoker: {checkpoint: {every: 0}}\n", 1, "auto"),
    _after_head("keep", "stoker: {checkpoint: {keep: none}}\n", 1, "auto"),
    _after_head("checkpoint key", "stoker:\n  checkpoint:\n    evry: 10\n", 3, "did you mean every?"),
    _after_head("lossy", "stoker: {recovery: {lossy: nevr}}\n", 1, "did you mean never?"),
    _after_head("rules", "stoker: {recovery: {rules: my.yaml}}\n", 1, "relative path"),
    _after_head("allow", "stoker: {preflight: {allow: [num_layer]}}\n", 1, "did you mean num-layers?"),
    _after_head("allow everything", "stoker: {preflight: {allow: [model]}}\n", 1, "overridden"),
    _after_head("env name", "stoker: {env: {1A: x}}\n", 1, "environment variable"),
    _after_head("own env name", "stoker: {env: {STOKER_HOME: x}}\n", 1, "Stoker's own"),
    _after_head("env value", "stoker: {env: {A: yes}}\n", 1, "quotes"),
    _after_head("needs", "stoker: {needs: other}\n", 1, "a list"),
    _after_head("needs numbers", "stoker: {needs: [1]}\n", 1, "text"),
    _after_head("priority", "stoker: {priority: high}\n", 1, "whole number"),
    _after_head("workers", "batch_size: 4\nstoker: {distributed: {workers: 3}}\n", 1, "divided"),
    _after_head("backend", "stoker: {distributed: {workers: 2, backend: rign}}\n", 1, "did you mean ring?"),
    _after_head("notify", "stoker: {notify: {}}\n", 1, "command is missing"),
    _after_head("fault", "stoker: {drill: [{fault: kil, at: 1}]}\n", 1, "did you mean kill?"),
    _after_head("fault without place", "stoker: {drill: [{fault: kill}]}\n", 1, "needs at"),
    _after_head("above of another", "stoker: {drill: [{fault: nan, above: 4}]}\n", 1, "oom"),
    _after_head("fault too late", "iters: 10\nstoker:\n  drill:\n  - {fault: kill, at: 11}\n", 4, "last iteration"),
    _after_head("attempts", "stoker: {drill: [{fault: kill, at: 1, attempts: 2}]}\n", 1, "[1, 2]"),
    _after_head("profile", "stoker: {profile: m3}\n", 1, "auto, none"),
    _after_head("relative base_dir", "stoker: {base_dir: here}\n", 1, "relative path"),
]

MALFORMED = [*TEXTS, *KEYS, *VALUES, *STOKER]

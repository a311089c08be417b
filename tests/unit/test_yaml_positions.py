import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stoker.profiles.yaml_positions import MAX_BYTES, Mark, parse
from stoker.profiles.yaml_scalars import dump


def test_gives_values_with_the_place_of_each_key_and_value():
    document = parse(b"model: /m\nstoker:\n  drill:\n  - {fault: kill, at: 40}\n")
    assert document.value == {"model": "/m", "stoker": {"drill": [{"fault": "kill", "at": 40}]}}
    assert document.flaws == ()
    assert document.values["stoker", "drill", 0, "at"] == Mark(4, 23)
    assert document.keys["stoker", "drill", 0, "at"] == Mark(4, 19)
    assert document.keys["model",] == Mark(1, 1)


def test_a_place_that_is_not_in_the_file_is_that_of_its_parent():
    document = parse(b"model: /m\nstoker:\n  checkpoint: {}\n")
    assert document.value_mark(("stoker", "checkpoint", "every")) == Mark(3, 3)
    assert document.value_mark(("nothing",)) == Mark(1, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E+3", 1000.0),
        ("2.8e-5", 2.8e-5),
        (".5", 0.5),
        ("1_000", 1000),
        ("0x10", 16),
        ("010", 8),
        ("1:30", 90),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("'1e-5'", "1e-5"),
        ("2026-01-01", "2026-01-01"),
        ("=", "="),
        ("!!str 3", "3"),
        ("!!float 3", 3.0),
        ("! 3", "3"),
    ],
)
def test_scalars_are_read_as_mlx_lm_reads_them(text, value):
    document = parse(f"x: {text}\n".encode())
    assert (document.value, document.flaws) == ({"x": value}, ())


def test_infinity_and_nan():
    value = parse(b"a: .inf\nb: .nan\n").value
    assert value["a"] == math.inf
    assert math.isnan(value["b"])


def test_aliases_and_merge_keys_are_allowed_and_each_use_is_a_value_of_its_own():
    document = parse(b"base: &b {rank: 8, scale: 20.0}\none: *b\ntwo:\n  <<: *b\n  rank: 16\n")
    assert document.flaws == ()
    assert document.value["two"] == {"rank": 16, "scale": 20.0}
    assert document.value["one"] == document.value["base"]
    assert document.value["one"] is not document.value["base"]
    assert document.values["one",] == Mark(2, 6)
    assert document.values["one", "rank"] == Mark(1, 17)


def test_the_first_of_several_merged_mappings_wins():
    document = parse(b"a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc:\n  <<: [*a, *b]\n")
    assert document.value["c"] == {"x": 1, "y": 2}


def test_a_chain_of_merges_is_not_deep():
    rows = ["a0: &a0 {k0: 1}"] + [f"a{n}: &a{n} {{<<: *a{n - 1}, k{n}: 1}}" for n in range(1, 60)]
    document = parse("\n".join(rows).encode())
    assert document.flaws == ()
    assert len(document.value["a59"]) == 60


def test_all_flaws_of_a_text_are_found_at_once():
    document = parse(b"a: 1\na: 2\non: 3\nb: !!python/name:os.system\n")
    assert [(flaw.mark.line, flaw.message.split()[0]) for flaw in document.flaws] == [
        (2, "duplicate"),
        (3, "this"),
        (4, "the"),
    ]


def test_a_byte_order_mark_is_no_part_of_the_text():
    assert parse(b"\xef\xbb\xbfmodel: a\n").value == {"model": "a"}
    assert parse(b"\xef\xbb\xbfa: 1\nb: \xff\n").flaws[0].mark == Mark(2, 4)


def test_a_file_at_the_limit_is_read_and_one_above_is_not():
    assert parse(b"a: 1\n#" + b"x" * (MAX_BYTES - 6)).value == {"a": 1}
    assert "bytes" in parse(b"a: 1\n#" + b"x" * (MAX_BYTES - 5)).flaws[0].message


def test_a_long_number_is_text_and_costs_no_time():
    digits = "1:" * 200_000 + "1"
    assert parse(f"x: {digits}\n".encode()).value == {"x": digits}


def test_pure_python_yaml_gives_the_same(monkeypatch):
    """Where PyYAML was built without libyaml."""
    text = b"a: [1, {b: 1e-5}]\nc: &c yes\nd: *c\n"
    native = parse(text)
    monkeypatch.setattr("stoker.profiles.yaml_positions._EVENTS", yaml.SafeLoader)
    assert parse(text) == native
    assert "deep" in parse(b"x: " + b"[" * 2000).flaws[0].message
    assert parse(b'x: "\\UFFFFFFFF"').flaws


@given(st.binary(max_size=300))
def test_no_bytes_raise(data):
    document = parse(data)
    assert document.value is not None or document.flaws


@given(st.text(alphabet="ab:-[]{}&*!|>'\"\\#?,% \n\t01.<~e", max_size=120))
def test_no_text_raises_and_every_place_is_in_the_text(text):
    document = parse(text.encode())
    assert document.value is not None or document.flaws
    for flaw in document.flaws:
        assert 1 <= flaw.mark.line <= text.count("\n") + 1
        assert flaw.mark.column >= 1


_SCALARS = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
)


@given(st.dictionaries(st.text("abcdef", min_size=1), _VALUES, max_size=4))
def test_what_is_dumped_is_read_back(value):
    document = parse(dump(value).encode())
    assert (document.value, document.flaws) == (value, ()) or not value


def test_dumped_text_that_looks_like_a_number_stays_text():
    assert dump({"a": "1e-5", "b": 1e-5, "c": "yes"}) == "a: '1e-5'\nb: 1.0e-05\nc: 'yes'\n"


def test_the_module_reads_no_file():
    source = Path(parse.__code__.co_filename).read_text(encoding="utf-8")
    assert "open(" not in source

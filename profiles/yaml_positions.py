"""YAML text -> value, with the position of every key and value, and everything that is wrong with the text.

PyYAML alone takes duplicate keys silently, gives values without positions, crashes the interpreter on deep nesting and
expands alias bombs. Here its event stream is composed by hand, under bounds, with PyYAML's own rules for scalars plus
mlx-lm's rule for floats (`1e-5` is a number), so that a value is what mlx-lm would have read from the same file.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from stoker.profiles.yaml_scalars import TAG, ScalarError, read_scalar, tag_name

Path = tuple[str | int, ...]

MAX_BYTES = 1_000_000  # a job file has a few hundred; more is a file dropped by mistake
MAX_NODES = 10_000  # keys, items and values, aliases expanded
MAX_DEPTH = 40
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # as YAML 1.1 has it
_EVENTS: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAPPING_HINT = "expected keys and values such as `model: /path/to/model`"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something that is wrong with the text itself."""

    mark: Mark
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says.

    Attributes:
        value: the top-level mapping, as far as it could be read; None when there is none.
        keys: position of each key, by path.
        values: position of each value, by path.
        flaws: what is wrong with the text; the value must not be used when there are any.
    """

    value: dict[str, Any] | None
    keys: Mapping[Path, Mark] = field(default_factory=dict)
    values: Mapping[Path, Mark] = field(default_factory=dict)
    flaws: tuple[Flaw, ...] = ()

    def value_mark(self, path: Path) -> Mark:
        """Return where the value at `path` stands; if it is not in the file, where its nearest parent stands."""
        return self.values.get(path) or self.key_mark(path)

    def key_mark(self, path: Path) -> Mark:
        """Return where the key at `path` stands; if it is not in the file, where its nearest parent stands."""
        for end in range(len(path), 0, -1):
            mark = self.keys.get(path[:end]) or self.values.get(path[:end])
            if mark:
                return mark
        return Mark(1, 1)


def parse(data: bytes) -> Document:
    """Read YAML bytes; never raises, whatever they are."""
    text = _decode(data)
    if isinstance(text, Flaw):
        return Document(None, flaws=(text,))
    composer = _Composer(text)
    try:
        root = composer.compose()
    except _Stop as stop:
        return Document(None, flaws=(*composer.flaws, Flaw(stop.mark, stop.message)))
    if root is None:
        return Document(None, flaws=(Flaw(Mark(1, 1), f"the file is empty: {_MAPPING_HINT}"),))
    if not isinstance(root, _Map):
        what = "a list" if isinstance(root, _Seq) else "a single value"
        flaw = Flaw(root.mark, f"the file holds {what}: {_MAPPING_HINT}")
        return Document(None, flaws=(*composer.flaws, flaw))
    keys: dict[Path, Mark] = {}
    values: dict[Path, Mark] = {}
    value = _flatten(root, (), keys, values)
    return Document(value, keys, values, tuple(composer.flaws))


def _decode(data: bytes) -> str | Flaw:
    if len(data) > MAX_BYTES:
        return Flaw(Mark(1, 1), f"the file has {len(data):,} bytes; a job file has at most {MAX_BYTES:,}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = _end_of(error.object[: error.start].decode(errors="replace"))  # object: without the byte order mark
        return Flaw(mark, f"the file is not UTF-8 text (byte 0x{error.object[error.start]:02x}); save it as UTF-8")
    if bad := _FORBIDDEN.search(text):
        message = f"the file holds the control character U+{ord(bad.group()):04X}: is it a binary file?"
        return Flaw(_end_of(text[: bad.start()]), message)
    return text


def _end_of(text: str) -> Mark:
    return Mark(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


class _Stop(Exception):  # noqa: N818 - ends the composition; it is no error of the program
    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message


@dataclass(slots=True)
class _Node:
    mark: Mark
    size: int = 1  # nodes, aliases expanded
    height: int = 1


@dataclass(slots=True)
class _Scalar(_Node):
    value: Any = None


@dataclass(slots=True)
class _Seq(_Node):
    items: list[_Node] = field(default_factory=list)


@dataclass(slots=True)
class _Map(_Node):
    items: dict[str, tuple[Mark, _Node]] = field(default_factory=dict)


@dataclass(slots=True)
class _Alias(_Node):
    target: _Node | None = None


class _Composer:
    """Builds the tree of the first document from PyYAML's events."""

    def __init__(self, text: str) -> None:
        self.flaws: list[Flaw] = []
        self._events: Iterator[Any] = yaml.parse(text, Loader=_EVENTS)
        self._anchors: dict[str, _Node | None] = {}  # None while the anchored value is being read
        self._total = 0
        self._last = Mark(1, 1)
        self._lines = len(text.splitlines())

    def compose(self) -> _Node | None:
        """Return the root; None for a file without content."""
        self._next()  # stream start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        first = self._next()
        empty = isinstance(first, yaml.ScalarEvent) and not first.value and first.implicit[0] and not first.anchor
        root = self._node(first, 1)
        self._next()  # document end
        more = self._next()
        if not isinstance(more, yaml.StreamEndEvent):
            raise _Stop(_mark(more), "a second document starts here: one file is one job, remove the `---`")
        return None if empty else root

    def _next(self) -> Any:
        try:
            event = next(self._events)
        except yaml.YAMLError as error:
            raise _Stop(*_syntax(error, self._last, self._lines)) from error
        except (ValueError, OverflowError) as error:  # PyYAML's own scanner on an escape beyond Unicode
            raise _Stop(self._last, f"not YAML: {error}") from error
        self._last = _mark(event)
        return event

    def _node(self, event: Any, depth: int) -> _Node:
        mark = _mark(event)
        self._total += 1
        if depth > MAX_DEPTH:
            raise _Stop(mark, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, mark, depth)
        if event.anchor:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node: _Node = self._scalar(event, mark)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._check_tag(event, mark, "seq")
            node = self._sequence(mark, depth)
        else:
            self._check_tag(event, mark, "map")
            node = self._mapping(mark, depth)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._bound(mark)
        return node

    def _bound(self, mark: Mark) -> None:
        if self._total > MAX_NODES:
            raise _Stop(mark, f"more than {MAX_NODES:,} values, aliases expanded: this is not a job file")

    def _alias(self, event: Any, mark: Mark, depth: int) -> _Node:
        if event.anchor not in self._anchors:
            raise _Stop(mark, f"alias *{event.anchor} has no anchor &{event.anchor} before it")
        target = self._anchors[event.anchor]
        if target is None:
            raise _Stop(mark, f"alias *{event.anchor} stands inside its own anchor")
        self._total += target.size
        self._bound(mark)
        if depth + target.height > MAX_DEPTH + 1:
            raise _Stop(mark, f"nested more than {MAX_DEPTH} levels deep")
        return _Alias(mark, target.size, target.height, target)

    def _sequence(self, mark: Mark, depth: int) -> _Seq:
        node = _Seq(mark)
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            self._adopt(node, child := self._node(event, depth + 1))
            node.items.append(child)
        return node

    def _mapping(self, mark: Mark, depth: int) -> _Map:
        node = _Map(mark)
        merged: list[_Map] = []
        merge_mark: Mark | None = None
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key_mark = _mark(event)
            is_merge = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
            key = None if is_merge else self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            self._adopt(node, value, deeper=not is_merge)
            if is_merge:
                if merge_mark:
                    self.flaws.append(Flaw(key_mark, f"duplicate key << (first at line {merge_mark.line})"))
                merge_mark = key_mark
                merged += self._sources(value)
            elif (name := self._key(key, key_mark)) is not None:
                if name in node.items:
                    first = node.items[name][0].line
                    self.flaws.append(Flaw(key_mark, f"duplicate key {_short(name)} (first at line {first})"))
                else:
                    node.items[name] = (key_mark, value)
        for source in merged:
            node.items = {**source.items, **node.items}
        return node

    def _adopt(self, parent: _Node, child: _Node, *, deeper: bool = True) -> None:
        """Count a child; a merged mapping's entries stand beside its parent's own, not deeper."""
        parent.size += child.size + 1  # + 1: the key
        parent.height = max(parent.height, child.height + deeper)

    def _key(self, node: _Node | None, mark: Mark) -> str | None:
        """Return the key's text; None, and a flaw, when it is anything else."""
        target = node.target if isinstance(node, _Alias) else node
        if not isinstance(target, _Scalar):
            self.flaws.append(Flaw(mark, "a key must be text, not a list or a mapping"))
        elif not isinstance(target.value, str):
            shown = _short(repr(target.value))
            self.flaws.append(Flaw(mark, f"this key is read as {shown}, which is not text: put it in quotes"))
        else:
            return target.value
        return None

    def _sources(self, value: _Node) -> list[_Map]:
        """Return the mappings that a merge key names; the first of them wins."""
        target = value.target if isinstance(value, _Alias) else value
        nodes = target.items if isinstance(target, _Seq) else [target]
        found = [node.target if isinstance(node, _Alias) else node for node in nodes]
        maps = [node for node in found if isinstance(node, _Map)]
        if len(maps) != len(found):
            self.flaws.append(Flaw(value.mark, "<< takes a mapping or a list of mappings"))
        return maps

    def _check_tag(self, event: Any, mark: Mark, own: str) -> None:
        if event.tag not in {None, "!", f"{TAG}{own}"}:
            message = f"the tag {tag_name(event.tag)} is not allowed in a job file: write plain values"
            self.flaws.append(Flaw(mark, message))

    def _scalar(self, event: Any, mark: Mark) -> _Scalar:
        try:
            return _Scalar(mark, value=read_scalar(event.value, event.tag, event.implicit))
        except ScalarError as error:
            self.flaws.append(Flaw(mark, str(error)))
            return _Scalar(mark)


def _flatten(node: _Node, path: Path, keys: dict[Path, Mark], values: dict[Path, Mark]) -> Any:
    """Return the plain value of a node, noting positions; every alias gets a value of its own."""
    values.setdefault(path, node.mark)
    if isinstance(node, _Alias):
        assert node.target is not None
        return _flatten(node.target, path, keys, values)
    if isinstance(node, _Seq):
        return [_flatten(item, (*path, n), keys, values) for n, item in enumerate(node.items)]
    if isinstance(node, _Map):
        result = {}
        for key, (mark, item) in node.items.items():
            keys[*path, key] = mark
            result[key] = _flatten(item, (*path, key), keys, values)
        return result
    assert isinstance(node, _Scalar)
    return node.value


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _syntax(error: yaml.YAMLError, last: Mark, lines: int) -> tuple[Mark, str]:
    places = (getattr(error, "problem_mark", None), getattr(error, "context_mark", None))
    place = next((place for place in places if place and place.line < lines), None)  # not the line after the last one
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    context = getattr(error, "context", None)
    hint = ""
    if "\\t" in problem or "tab" in problem or "cannot start any token" in problem:
        hint = " (indent with spaces, not tabs; text that starts with @, ` or % needs quotes)"
    elif "mapping values are not allowed" in problem:
        hint = " (is a quote missing around text with a colon, or the indentation off?)"
    mark = Mark(place.line + 1, place.column + 1) if place else last
    return mark, f"not YAML: {problem}{f' {context}' if context else ''}{hint}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."

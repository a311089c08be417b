"""Python tracebacks in a stream of lines: the exception, its frames, and how it hangs together with the one before."""

import re
from dataclasses import dataclass

from stoker.recovery.dialects.lines import Line

_BEGIN = "Traceback (most recent call last):"
# faulthandler writes `line 12 in f` without the comma: those are stacks, not tracebacks.
_FRAME = re.compile(r'^(?P<indent>[\s|+]*)File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_MARKS = re.compile(r"^[\s|]*[~^]+[\s~^]*$|^\s*\.\.\.<\d+ lines>\.\.\.$|^\s*\[Previous line repeated")
_NAME = r"(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*"
_ENDS_LIKE_ONE = re.compile(
    rf"^(?P<type>{_NAME}(?:Error|Exception|Interrupt|Exit|Timeout|Enabled|Failure|Warning|NotFound)|(?:{_NAME}\.)?Timeout)"
    r"(?:: ?(?P<message>.*))?$"
)
_ANY = re.compile(rf"^(?P<type>{_NAME})(?:: ?(?P<message>.*))?$")
# Without frames (excerpts, other tools' logs): CamelCase, a message, at most a rank or a time in front.
_BARE = re.compile(
    r"^\s*(?:\[[^\]]{1,40}\]:? |\d[\d:., T-]{7,30}(?:\S+ )?(?:ERROR|CRITICAL|FATAL)\S* )?"
    r"(?P<type>(?:[A-Za-z_]\w*\.)*[A-Z]\w+(?:Error|Exception)|KeyboardInterrupt)(?:: (?P<message>.+)|:?$)"
)
# The exception below these was printed and survived: by a destructor, by logging, at interpreter exit.
_SURVIVED = re.compile(
    r"^(?:Exception ignored in|Exception ignored while|--- Logging error ---|Error in atexit|Error in sys\.excepthook)"
)
_CAUSED = "The above exception was the direct cause of the following exception:"
_LIBRARY = re.compile(r"(?:^|/)mlx_(?:lm|vlm|lm_lora|tune)/|(?:^|/)(?:trainer|lora|datasets)\.py$")
_PATIENCE = 12  # lines after a frame without another frame or an exception: the traceback was cut off


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: file, line of the source, function, and the source text where it was printed."""

    path: str
    line: int
    function: str
    code: str = ""

    @property
    def place(self) -> str:
        """`mlx_lm/tuner/trainer.py:119 in iterate_batches`, short enough for a page."""
        short = "/".join(self.path.split("/")[-3:])
        return f"{short.split('site-packages/')[-1]}:{self.line}" + (f" in {self.function}" if self.function else "")

    def __str__(self) -> str:
        return f"{self.path} in {self.function} | {self.code}"


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception as it was printed.

    Attributes:
        line: of the log, 1-based: the line `Type: message`.
        type, message: as printed; the type with its module.
        frames: outermost first; empty when only the last line is there.
        caused_by_previous: `raise ... from error`: this one is the other one's wrapper and says it better.
        survived: printed by somebody who went on.
    """

    line: int
    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    caused_by_previous: bool = False
    survived: bool = False

    @property
    def head(self) -> str:
        """`Type: message`."""
        return f"{self.type}: {self.message}" if self.message else self.type

    @property
    def frame(self) -> Frame | None:
        """The innermost frame of the training library, else the innermost of all."""
        own = tuple(f for f in self.frames if _LIBRARY.search(f.path) and "/bin/" not in f.path)
        return (own or self.frames)[-1] if self.frames else None


class Tracebacks:
    """Reads lines one after the other and hands out each exception when its last line comes."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._active = False
        self._indented = True
        self._survived = False
        self._caused = False
        self._idle = 0

    @property
    def active(self) -> bool:
        """Inside a traceback: what is printed now is source text."""
        return self._active

    def feed(self, line: Line) -> Raised | None:
        """Take the next line; return the exception that it completes."""
        text = line.text
        if text.endswith(_BEGIN):
            self._begin()
            return None
        if "File " in text and (frame := _FRAME.match(text)):
            self._active = True
            self._indented = bool(frame["indent"])
            self._idle = 0
            self._frames.append(Frame(frame["path"], int(frame["line"]), frame["function"] or ""))
            return None
        if self._active:
            return self._inside(line)
        self._survived = text[0] in "E-" and _SURVIVED.match(text) is not None  # holds for the traceback right below
        self._caused = text == _CAUSED
        if ("Error" in text or "Exception" in text or "Interrupt" in text) and (bare := _BARE.match(text)):
            return self._finish(line.number, bare)
        return None

    def _begin(self) -> None:
        self._frames.clear()
        self._active = True

    def _inside(self, line: Line) -> Raised | None:
        text = line.text.lstrip("| ") if line.text.startswith("  |") else line.text
        ends = _ENDS_LIKE_ONE.match(text)
        if ends is None and self._frames and self._indented and not text[0].isspace():
            ends = _ANY.match(text)
        if ends is not None:
            return self._finish(line.number, ends)
        if _MARKS.match(text):
            return None
        cut_off = not self._frames or (self._indented and not text[0].isspace())
        self._idle += 1
        if cut_off or self._idle > _PATIENCE:
            self.stop()
        elif not self._frames[-1].code:
            last = self._frames[-1]
            self._frames[-1] = Frame(last.path, last.line, last.function, text.strip())
        return None

    def _finish(self, number: int, found: re.Match[str]) -> Raised:
        raised = Raised(
            number, found["type"], found["message"] or "", tuple(self._frames), self._caused, self._survived
        )
        self.stop()
        return raised

    def stop(self) -> None:
        """Forget the traceback: it was cut off, or it is complete."""
        self._frames.clear()
        self._active = self._survived = self._caused = False
        self._idle = 0

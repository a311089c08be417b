"""mlx-lm's own lines on stdout, as the installed version prints them. People read them and their tools parse them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

try:
    from mlx_lm.cli_ui import TrainUI
except ImportError:  # mlx-lm before 0.32
    TrainUI = None


class Console(Protocol):
    """What the training loop tells a person."""

    def __enter__(self) -> object: ...
    def __exit__(self, *exc: object) -> object: ...
    def advance(self) -> None:
        """One more iteration is done."""

    def validating(self, total: int) -> Any:
        """Enter around a validation of `total` batches; gives a function to call after each of them."""

    def report_val(self, iteration: int, loss: float, seconds: float) -> None:
        """The result of a validation."""

    def report_train(self, info: dict[str, Any]) -> None:
        """The numbers since the last report, under mlx-lm's callback names."""

    def report_save(self, iteration: int, adapter: Path, numbered: Path) -> None:
        """A numbered adapter was written."""

    def report_final(self, adapter: Path) -> None:
        """The final adapter was written."""


def make_console(iters: int, start: int) -> Console:
    """The console of the installed mlx-lm; `start` iterations are already behind us."""
    return RichConsole(iters, start) if TrainUI is not None else PlainConsole(iters)


class RichConsole:
    """The table of mlx-lm 0.32 and later."""

    def __init__(self, iters: int, start: int) -> None:
        self._ui = TrainUI(iters, rank=0)
        for _ in range(start):
            self._ui.advance()

    def __enter__(self) -> object:
        return self._ui.__enter__()

    def __exit__(self, *exc: object) -> object:
        return self._ui.__exit__(*exc)

    def advance(self) -> None:
        """One more iteration is done."""
        self._ui.advance()

    def validating(self, total: int) -> Any:
        """A context in which a call advances the bar of the validation."""
        return self._ui.val_task(total)

    def report_val(self, iteration: int, loss: float, seconds: float) -> None:
        """The result of a validation."""
        self._ui.report_val(iteration, loss, seconds)

    def report_train(self, info: dict[str, Any]) -> None:
        """The numbers since the last report."""
        self._ui.report_train(info["iteration"], info["train_loss"], info["tokens_per_second"], info["trained_tokens"])

    def report_save(self, iteration: int, adapter: Path, numbered: Path) -> None:  # noqa: ARG002 - the other dialect does
        """A numbered adapter was written."""
        self._ui.report_save(numbered)

    def report_final(self, adapter: Path) -> None:
        """Say nothing: the dialect has no such line."""


class PlainConsole:
    """The lines of mlx-lm up to 0.31.3."""

    def __init__(self, iters: int) -> None:
        print(f"Starting training..., iters: {iters}")

    def __enter__(self) -> object:
        return self

    def __exit__(self, *exc: object) -> object:
        return None

    def advance(self) -> None:
        """Say nothing: the dialect has no bar."""

    @contextmanager
    def validating(self, total: int) -> Iterator[Callable[[], None]]:  # noqa: ARG002 - the other dialect needs it
        """Draw nothing: mlx-lm's `evaluate` of these versions has a bar of its own."""
        yield lambda: None

    def report_val(self, iteration: int, loss: float, seconds: float) -> None:
        """The result of a validation."""
        print(f"Iter {iteration}: Val loss {loss:.3f}, Val took {seconds:.3f}s", flush=True)

    def report_train(self, info: dict[str, Any]) -> None:
        """The numbers since the last report."""
        print(
            f"Iter {info['iteration']}: Train loss {info['train_loss']:.3f}, "
            f"Learning Rate {info['learning_rate']:.3e}, "
            f"It/sec {info['iterations_per_second']:.3f}, "
            f"Tokens/sec {info['tokens_per_second']:.3f}, "
            f"Trained Tokens {info['trained_tokens']}, "
            f"Peak mem {info['peak_memory']:.3f} GB",
            flush=True,
        )

    def report_save(self, iteration: int, adapter: Path, numbered: Path) -> None:
        """A numbered adapter was written."""
        print(f"Iter {iteration}: Saved adapter weights to {adapter} and {numbered}.")

    def report_final(self, adapter: Path) -> None:
        """The final adapter was written."""
        print(f"Saved final weights to {adapter}.")

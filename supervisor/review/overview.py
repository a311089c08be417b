"""The status page and document of a home: reads the store, the terminal and the clock; renders nothing itself."""

import time
from typing import Any

from stoker.supervisor.paths import Home


def read(home: Home) -> dict[str, Any]:
    """Return the document of `stoker status --json`."""
    from stoker.supervisor.store.read import Reader

    with Reader(home) as reader:
        return reader.status()


def page(home: Home) -> str:
    """Return the page of `stoker status`, as wide and as colourful as the terminal is."""
    from stoker.supervisor.review import console, words
    from stoker.supervisor.review.course import losses
    from stoker.supervisor.review.status import render

    document = read(home)
    courses = {
        run["run_id"]: losses(home.run(run["run_id"]), run.get("attempt") or 0)
        for run in document["runs"]
        if run.get("state") in words.TRAINING
    }
    return render(document, now=time.time(), width=console.width(), colour=console.colours(), losses=courses)


def print_status(home: Home, *, as_json: bool) -> None:
    """Print the document or the page once."""
    if as_json:
        from stoker.supervisor.review.document import dumps

        print(dumps(read(home)))
        return
    from stoker.supervisor.review.console import say

    say(page(home))

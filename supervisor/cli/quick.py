"""`stoker status` without typer: people and scripts call it all day, and typer's argument parsing costs half of it.

typer builds a pydantic adapter for each parameter before it runs a verb (some 100 ms); this reads the few plain forms of
the one verb by hand and leaves everything else, mistakes included, to typer.
"""

from collections.abc import Sequence
from pathlib import Path

from stoker.supervisor.paths import Home, default_home


def quick_status(arguments: Sequence[str]) -> bool:
    """Answer `[--home DIR] status [--json]`; return False, having done nothing, for any other command line."""
    words = list(arguments)
    home = default_home()
    if len(words) > 2 and words[0] == "--home":
        home = Path(words[1]).expanduser().absolute()
        del words[:2]
    elif words and words[0].startswith("--home=") and words[0] != "--home=":
        home = Path(words.pop(0).removeprefix("--home=")).expanduser().absolute()
    if words not in (["status"], ["status", "--json"]):
        return False
    from stoker.supervisor.review.overview import print_status

    print_status(Home(home), as_json=words[-1] == "--json")
    return True

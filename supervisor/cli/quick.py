"""`stoker status` and `stoker run` without typer.

typer builds a pydantic adapter for each parameter of every verb before it runs one: some 100 ms, which people who call
`status` all day would wait for, and some MiB, which the daemon would carry for weeks. This reads the few plain forms of
these two verbs by hand and leaves everything else, mistakes included, to typer.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from stoker.supervisor.paths import Home, default_home


def quick(arguments: Sequence[str]) -> bool:
    """Do `[--home DIR] status [--json]` or `[--home DIR] run [--drain]`; False, having done nothing, for any other."""
    words = list(arguments)
    home = default_home()
    if len(words) > 2 and words[0] == "--home":
        home = Path(words[1]).expanduser().absolute()
        del words[:2]
    elif words and words[0].startswith("--home=") and words[0] != "--home=":
        home = Path(words.pop(0).removeprefix("--home=")).expanduser().absolute()
    match words:
        case ["status"] | ["status", "--json"]:
            from stoker.supervisor.review.overview import print_status

            print_status(Home(home), as_json=words[-1] == "--json")
        case ["run"] | ["run", "--drain"]:
            serve(Home(home), drain=words[-1] == "--drain")
        case _:
            return False
    return True


def serve(home: Home, *, drain: bool) -> None:
    """Be the daemon of `home` until asked to end, or, draining, until nothing is left to do."""
    from stoker.supervisor.clock import SystemClock
    from stoker.supervisor.daemon import Daemon
    from stoker.supervisor.logs import set_up
    from stoker.supervisor.settings import load_settings

    settings = load_settings(home.settings)
    home.create()
    set_up(home.log, terminal=sys.stderr.isatty())
    Daemon(home, settings, SystemClock(), drain=drain).run()

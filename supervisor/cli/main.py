"""The `stoker` command: errors as people read them, and the fast way for `status` and `run`."""

import sqlite3
import sys

from stoker.supervisor.cli.quick import quick
from stoker.supervisor.errors import StokerError


def main() -> None:
    """Run the command line; errors become one sentence, a hint and an exit code."""
    try:
        if not quick(sys.argv[1:]):
            # Here, because typer and its pydantic take longer than reading 10,000 runs does.
            from stoker.supervisor.cli.app import app

            app()
    except StokerError as error:
        print(f"stoker: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except sqlite3.Error as error:
        print(f"stoker: the store cannot be read: {error}\n  stoker doctor says more", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nothing is wrong
        sys.exit(1)

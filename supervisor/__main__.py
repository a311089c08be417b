"""`python -m stoker.supervisor`: the same as the `stoker` command."""

from stoker.supervisor.cli.main import main

main()

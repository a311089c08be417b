"""`stoker demo`: a real small training with injected faults, to its good end."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Where to work, and to leave everything for a look.")
    ] = None,
) -> None:
    """Train a tiny model for real, let it die in four ways, and see it end with the right weights."""
    import tempfile

    from stoker.supervisor.demo.demonstration import Stage, perform, verdict
    from stoker.supervisor.demo.serving import need_compiler
    from stoker.supervisor.review.console import show

    need_compiler()
    place = folder.expanduser().absolute() if folder else Path(tempfile.mkdtemp(prefix="stoker-demo-"))
    place.mkdir(parents=True, exist_ok=True)
    claims = perform(place, Stage(say=lambda text: print(text, flush=True), show=show))
    print(f"\n{verdict(claims)}\n\nlook around: stoker --home {place / 'home'} explain four-faults")
    if not all(claim.true for claim in claims):
        raise typer.Exit(1)

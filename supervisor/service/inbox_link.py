"""`~/Stoker/inbox`: the inbox where a person finds it. A link, because the real one stands beside the database."""

from pathlib import Path


def inbox_link(user_home: Path) -> Path:
    """Return where the link stands."""
    return user_home / "Stoker" / "inbox"


def link_inbox(inbox: Path, user_home: Path) -> tuple[str, str]:
    """Make the link; never replace anything that is there already.

    Returns:
        What was done and what a person should know; either may be "".
    """
    link = inbox_link(user_home)
    if link == inbox or _points_to(link, inbox):
        return "", ""
    try:
        link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        link.symlink_to(inbox)
    except FileExistsError as error:
        what = f"it is a link to {link.readlink()}" if link.is_symlink() else "something else is there"
        return "", f"{error.filename2 or error.filename or link} was left as it is ({what}); the inbox is {inbox}"
    except OSError as error:
        return "", f"cannot make the link {link}: {error.strerror}; the inbox is {inbox}"
    return f"linked {link} to {inbox}", ""


def unlink_inbox(inbox: Path, user_home: Path) -> str:
    """Remove the link if it is ours, and its folder if nothing else is in it; return what was done."""
    link = inbox_link(user_home)
    if not _points_to(link, inbox):
        return ""
    link.unlink()
    if not any(link.parent.iterdir()):
        link.parent.rmdir()
    return f"removed the link {link}"


def _points_to(link: Path, inbox: Path) -> bool:
    return link.is_symlink() and link.readlink() == inbox

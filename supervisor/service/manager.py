"""Install and uninstall Stoker as a service of the current user, with whatever manages services here."""

import sys
from pathlib import Path

from stoker.supervisor.host.command import Patience, Run, run_command
from stoker.supervisor.paths import Home
from stoker.supervisor.service.inbox_link import inbox_link, link_inbox, unlink_inbox
from stoker.supervisor.service.launchctl import LaunchAgent
from stoker.supervisor.service.spec import ServiceSpec
from stoker.supervisor.service.state import Outcome, ServiceManager
from stoker.supervisor.service.systemctl import UserUnit


def service_manager(
    *,
    platform: str = sys.platform,
    user_home: Path | None = None,
    run: Run = run_command,
    patience: Patience | None = None,
) -> ServiceManager:
    """Return launchd's side on a Mac and systemd's elsewhere."""
    folder = user_home or Path.home()
    if platform == "darwin":
        return LaunchAgent(folder, run=run, patience=patience or Patience())
    return UserUnit(folder, run=run)


def preview(home: Home, spec: ServiceSpec, manager: ServiceManager, user_home: Path) -> tuple[str, ...]:
    """Return what `install` would do, one line each."""
    folders = () if home.inbox.is_dir() else (f"make {home.inbox}, for its owner only",)
    link = inbox_link(user_home)
    links = () if link.is_symlink() or link.exists() else (f"link {link} to {home.inbox}",)
    return (*folders, *links, *manager.preview(spec))


def install(home: Home, spec: ServiceSpec, manager: ServiceManager, user_home: Path) -> Outcome:
    """Make the home, the link to the inbox and the service, and start it. May be repeated.

    Raises:
        ServiceError: the service manager refused.
    """
    home.create()
    linked, warning = link_inbox(home.inbox, user_home)
    outcome = manager.install(spec)
    return Outcome(
        running=outcome.running,
        done=(*_said(linked), *outcome.done),
        warnings=(*outcome.warnings, *_said(warning)),
        see=outcome.see,
    )


def uninstall(home: Home, spec: ServiceSpec, manager: ServiceManager, user_home: Path) -> Outcome:
    """Stop and remove the service and the link. Home, runs and running trainers are left alone. May be repeated.

    Raises:
        ServiceError: the service manager refused.
    """
    outcome = manager.uninstall(spec)
    return Outcome(running=outcome.running, done=(*outcome.done, *_said(unlink_inbox(home.inbox, user_home))))


def _said(text: str) -> tuple[str, ...]:
    return (text,) if text else ()

"""The user unit for systemd."""

from importlib import resources
from string import Template

from stoker.supervisor.errors import UsageError
from stoker.supervisor.service.spec import ServiceSpec

_REFUSED = "\"'\\"  # systemd: "Executable name contains special characters"; in the other arguments they are fine


def render(spec: ServiceSpec) -> bytes:
    """Return the unit; `systemd/stoker.service` is its template."""
    if refused := set(spec.argv[0]) & set(_REFUSED):
        raise UsageError(
            f"cannot write {spec.unit}: systemd starts no program whose path holds {' '.join(sorted(refused))}: "
            f"{spec.argv[0]}",
            hint="move the virtual environment to a folder with a plainer name",
        )
    template = Template(resources.files("stoker.systemd").joinpath("stoker.service").read_text(encoding="utf-8"))
    return template.substitute(
        argv=" ".join(quoted(part) for part in spec.argv),
        # A path is taken as it stands up to the end of the line: no quotes, no escapes, but specifiers.
        home=str(spec.home).replace("%", "%%"),
        environment="\n".join(f"Environment={quoted(f'{name}={value}')}" for name, value in spec.environment.items()),
        restart_delay_s=spec.restart_delay_s,
        stop_timeout_s=spec.stop_timeout_s,
        watchdog_s=spec.watchdog_s,
    ).encode()


def quoted(value: str) -> str:
    """Return `value` as one word of a unit file: in double quotes, with specifiers (%) and escapes made harmless."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'

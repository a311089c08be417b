"""The property list for launchd."""

import html
import plistlib
from importlib import resources
from string import Template

from stoker.supervisor.service.spec import ServiceSpec


def render(spec: ServiceSpec) -> bytes:
    """Return the property list, comments included; `launchd/stoker.plist` is its template."""
    template = Template(resources.files("stoker.launchd").joinpath("stoker.plist").read_text(encoding="utf-8"))
    data = template.substitute(
        label=_text(spec.label),
        argv="\n".join(f"\t\t<string>{_text(part)}</string>" for part in spec.argv),
        home=_text(str(spec.home)),
        restart_delay_s=spec.restart_delay_s,
        stop_timeout_s=spec.stop_timeout_s,
        environment="\n".join(
            f"\t\t<key>{_text(name)}</key>\n\t\t<string>{_text(value)}</string>"
            for name, value in spec.environment.items()
        ),
        out_log=_text(str(spec.out_log)),
        err_log=_text(str(spec.err_log)),
    ).encode()
    plistlib.loads(data)  # launchd answers a broken list with nothing but "Input/output error"
    return data


def _text(value: str) -> str:
    """Return `value` as XML text."""
    return html.escape(value, quote=False)

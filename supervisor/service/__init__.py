"""Stoker as a launchd or systemd service: one ServiceSpec, two renderers."""

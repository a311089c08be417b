"""Templates of the systemd units, shipped as package data."""

"""Templates of the launchd property lists, shipped as package data."""

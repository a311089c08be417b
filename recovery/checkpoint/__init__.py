"""Checkpoints: manifest, verification, choice of the last good."""

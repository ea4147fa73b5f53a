"""Augmentations that know nothing of the simulator."""

"""Angles about the beam."""

from typing import Any

import numpy as np


def wrapped(angle: Any) -> Any:
    """Bring angles to [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi

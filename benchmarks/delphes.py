"""Our detector against Delphes: where the reference of Delphes lies."""

from pathlib import Path

REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "delphes"

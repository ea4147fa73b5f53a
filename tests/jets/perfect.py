"""A detector without smearing, inefficiency and thresholds, and a short way to change cards."""

from typing import Any

from resim.jets.cards import DetectorSettings, detector_settings

_ALL = {"pt_edges": [0], "eta_edges": [10], "values": [[1]], "decline": 0}
_SHARP = {"resolution_factor": 0, "energy_min": 0, "significance_min": 0, "spread": 0}

PERFECT = detector_settings(
    {
        "tracking": {
            "hadron_efficiency": _ALL,
            "electron_efficiency": _ALL,
            "muon_efficiency": _ALL,
            "resolution_factor": 0,
            "impact": {"resolution_factor": 0},
        },
        "identification": {"electron": _ALL, "muon": _ALL},
        "ecal": _SHARP,
        "hcal": _SHARP,
    },
    "test",
)


def changed(settings: DetectorSettings, values: dict[str, Any]) -> DetectorSettings:
    """Lay values over settings, block by block."""
    return DetectorSettings.model_validate(_over(settings.model_dump(), values))


def _over(first: Any, values: Any) -> Any:
    if not (isinstance(first, dict) and isinstance(values, dict)):
        return values
    return first | {name: _over(first.get(name), value) for name, value in values.items()}

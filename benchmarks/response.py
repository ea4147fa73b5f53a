"""What a detector does to events, as numbers: the quantities of the Delphes reference, by its own definitions.

They are measured in the same way on our candidates and on those that Delphes wrote: from what the generator made and
what the detector saw, never from inside the detector. GeV, mm.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from resim.jets.clustering import Jets, JetSettings, cluster
from resim.jets.detector import NEUTRAL_HADRON, PHOTON
from resim.jets.states import F8, I8, Candidates, Hadrons
from resim.jets.substructure import kinematics, mass, softdrop
from resim.jets.truth import match
from resim.ragged import Ragged, offsets_of, row_of, select_elements

Window = tuple[float, float]
Mask = NDArray[np.bool_]


class Quantity(NamedTuple):
    """One number that a detector is compared by."""

    group: str
    where: str
    statistic: str


Values = dict[Quantity, float]

TOLERANCE = {
    "fraction": 0.02,
    "mean": 0.02,
    "std": 0.10,
    "sigma68": 0.10,
    "number": 0.05,
    "sum": 0.05,
}
"""How far from Delphes a statistic may lie: relative to Delphes's value, but for fractions."""
SIGMAS = 3.0
"""Statistical errors that a difference may have beyond the tolerance: 0.3 % of good numbers lie farther out."""

SPECIES = ("charged_hadron", "electron", "muon")
PT_BINS: tuple[Window, ...] = (
    (0, 0.1),
    (0.1, 1),  # this one in three parts, too
    (0.1, 0.4),
    (0.4, 0.75),
    (0.75, 1),
    (1, 10),
    (10, 100),
    (100, 1000),
)
ETA_BINS: tuple[Window, ...] = ((0, 1.5), (1.5, 2.5), (2.5, 5))
TRACK_ETA: tuple[Window, ...] = ((0, 0.5), (0.5, 1.5), (1.5, 2.5))
TRACK_PT: dict[str, Window] = {"1": (0.9, 1.1), "10": (9, 11), "100": (80, 120)}
GUN_ETA: tuple[Window, ...] = ((0, 1.4), (1.6, 2.4))
GUN_PT = (1.001, 10.01, 100.1)
JET_PT: tuple[Window, ...] = ((300, 400), (400, 500), (500, 700), (700, 2000))

_NEAR_ZERO = {Quantity("jets", "mass less generator's", "mean")}  # a share of it says nothing
_MIN_ENTRIES = 10
_SAME_ETA = 2e-6  # a track keeps the eta of its particle; Delphes stores it in single precision
_BEAM_R, _BEAM_Z = 10.0, 100.0  # mm, production vertices of the particles that can be expected to be tracked
_FIELD, _RADIUS, _HALF_LENGTH = 3.8, 1.29, 3.0  # T, m: Delphes's tracking volume, for eta where a particle leaves it
_GUN_CONE = 0.3


@dataclass(frozen=True)
class Row:
    """A quantity of ours beside Delphes's."""

    quantity: Quantity
    ours: float
    delphes: float
    error: float
    """Standard error of the difference."""

    @property
    def tolerance(self) -> float:
        """How far apart they may be."""
        allowed = TOLERANCE[self.quantity.statistic]
        return allowed if self.quantity.statistic == "fraction" else allowed * abs(self.delphes)

    @property
    def difference(self) -> float:
        """Ours less Delphes's."""
        return self.ours - self.delphes

    @property
    def told(self) -> bool:
        """Whether both sides have the number, and ours more than once."""
        return bool(np.isfinite(self.error))

    @property
    def verdict(self) -> str:
        """Say "within", "within errors (reference allows ±x)", "outside", or "left out" where a side lacks it."""
        if not self.told:
            return "left out"
        if abs(self.difference) <= self.tolerance and self.error <= self.tolerance:
            return "within"
        if abs(self.difference) <= max(SIGMAS * self.error, self.tolerance):
            return f"within errors (reference allows ±{SIGMAS * self.error:.2g})"
        return "outside"


def compare(passes: Sequence[Values], delphes: Values, least_errors: Mapping[Quantity, float]) -> list[Row]:
    """Put the mean of our passes over the events beside Delphes's one pass.

    How much one pass scatters is seen in ours, so that scatter is Delphes's error, too: it holds for any statistic,
    and what the events have in common drops out. Where few entries hardly scatter, `least_errors` takes its place.
    What a side lacks (fewer than ten entries, or not in the reference) has a row that is left out of the comparison.
    """
    rows = []
    for quantity in dict.fromkeys(key for values in (delphes, *passes) for key in values):
        theirs = delphes.get(quantity, np.nan)
        ours = np.array([value for values in passes if np.isfinite(value := values.get(quantity, np.nan))])
        error = np.nan
        if len(ours) > 1 and np.isfinite(theirs):
            scatter = max(float(np.std(ours, ddof=1)), least_errors.get(quantity, 0.0))
            error = float(scatter * np.sqrt(1 + 1 / len(ours)))
        rows.append(Row(quantity, float(ours.mean()) if len(ours) else np.nan, theirs, error))
    return rows


def pulls(rows: Sequence[Row]) -> F8:
    """Give the differences over their errors, but where both are the same for sure (no tracks beyond |η| = 2.5)."""
    return np.array([row.difference / row.error for row in rows if row.told and row.difference])


def sigma68(values: F8) -> float:
    """Give half the width of the central 68 %."""
    low, high = np.percentile(values, [16, 84])
    return float(high - low) / 2


def spread_of(group: str, where: str, values: F8, statistics: Sequence[str] = ("mean", "std", "sigma68")) -> Values:
    """Give statistics of a distribution, NaN for fewer than ten entries."""
    if len(values) < _MIN_ENTRIES:
        return {Quantity(group, where, name): np.nan for name in statistics}
    found = {"mean": values.mean(), "std": values.std(ddof=1), "sigma68": sigma68(values)}
    return {Quantity(group, where, name): float(found[name]) for name in statistics}


def name_of(window: Window, what: str) -> str:
    """Name a bin."""
    low, high = (f"{edge:g}" for edge in window)
    return f"{what} < {high}" if window[0] == 0 else f"{low} < {what} < {high}"


def inside(values: F8, window: Window) -> Mask:
    """Mark what lies in a bin (low, high]."""
    return (values > window[0]) & (values <= window[1])


# --- generator level ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """The charged particles of some events, and the jets of the visible ones: the same for all passes."""

    row: I8
    pt: F8
    eta: F8
    outer_eta: F8
    central: Mask
    """Made near the beam line."""
    species: dict[str, Mask]
    visible_energy: F8
    """By event, |eta| < 5."""
    jets: Jets
    """R = 0.8, pT > 300 GeV, |eta| < 2."""
    jet_mass: F8

    @classmethod
    def of(cls, hadrons: Hadrons) -> "Truth":
        """Find them."""
        p, row = hadrons.particles, row_of(hadrons.particles.offsets)
        pt, kind = np.hypot(p["px"], p["py"]), np.abs(p["id"])
        visible = ~np.isin(kind, (12, 14, 16)) & (pt > 0)
        eta = np.arcsinh(p["pz"] / np.where(visible, pt, np.inf))
        charged = np.flatnonzero((np.abs(p["charge"]) == 1) & visible)
        seen = visible & (np.abs(eta) < 5)
        jets = _jets(hadrons, Ragged(select_elements(p.offsets, visible), _masked(p, visible)), 300.0, 2.0)
        is_electron, is_muon = kind[charged] == 11, kind[charged] == 13
        near = (np.hypot(p["x"], p["y"]) < _BEAM_R) & (np.abs(p["z"]) < _BEAM_Z)
        return cls(
            row=row[charged],
            pt=pt[charged],
            eta=eta[charged],
            outer_eta=outer_eta(pt[charged], p["pz"][charged]),
            central=near[charged],
            species=dict(zip(SPECIES, (~is_electron & ~is_muon, is_electron, is_muon), strict=True)),
            visible_energy=_sums(row[seen], p["e"][seen], len(hadrons.event)),
            jets=jets,
            jet_mass=mass((jets.px, jets.py, jets.pz, jets.e)),
        )


def _masked(rows: Ragged, keep: Mask) -> dict[str, NDArray[Any]]:
    return {name: column[keep] for name, column in rows.columns.items()}


def _sums(group: I8, values: F8, n_groups: int) -> F8:
    return np.bincount(group, weights=values, minlength=n_groups).astype(np.float64)


def outer_eta(pt: F8, pz: F8) -> F8:
    """Give eta of the place where a unit charge from the origin leaves the tracking volume of Delphes."""
    radius = pt / (0.299792458 * _FIELD)  # m, of the helix
    with np.errstate(divide="ignore"):
        to_end = _HALF_LENGTH * pt / np.abs(pz)
    to_side = np.where(2 * radius > _RADIUS, 2 * radius * np.arcsin(np.minimum(_RADIUS / (2 * radius), 1)), np.inf)
    length = np.minimum(to_side, to_end)
    length = np.where(np.isfinite(length), length, 0)
    across = 2 * radius * np.abs(np.sin(length / (2 * radius)))
    return np.arcsinh(length * pz / pt / np.maximum(across, 1e-9))


# --- tracks ------------------------------------------------------------------------------------------------------


def tracks_of(truth: Truth, candidates: Ragged) -> tuple[I8, I8]:
    """Find the particle of each track by its event and eta, which no detector here changes.

    Returns
    -------
    particle, track
        Places in the truth and in the candidates' columns.
    """
    track = np.flatnonzero(candidates["charge"] != 0)
    pz, pt = candidates["pz"][track], np.hypot(candidates["px"][track], candidates["py"][track])
    wide = 64.0  # more than any two eta lie apart
    wanted = row_of(candidates.offsets)[track] * wide + np.arcsinh(pz / pt)
    known = truth.row * wide + truth.eta
    order = np.argsort(known)
    after = np.clip(np.searchsorted(known[order], wanted), 1, len(order) - 1)
    left, right = order[after - 1], order[after]
    particle = np.where(np.abs(known[left] - wanted) < np.abs(known[right] - wanted), left, right)
    same = np.abs(known[particle] - wanted) < _SAME_ETA * (1 + np.abs(truth.eta[particle]))
    return particle[same], track[same]


def efficiency_cells(truth: Truth) -> dict[Quantity, I8]:
    """Give the particles of each bin of pT and |eta|, of the momentum and (hadrons) of the outer place."""
    cells: dict[Quantity, I8] = {}
    for species, mine in truth.species.items():
        cells |= _cells(f"tracking efficiency, {species}", truth, truth.eta, mine)
    return cells | _cells("tracking efficiency, outer eta", truth, truth.outer_eta, truth.species["charged_hadron"])


def _cells(group: str, truth: Truth, eta: F8, mine: Mask) -> dict[Quantity, I8]:
    cells = {}
    for eta_bin in ETA_BINS:
        strip = mine & truth.central & inside(np.abs(eta), eta_bin)
        for pt_bin in PT_BINS:
            where = f"{name_of(pt_bin, 'pT')}, {name_of(eta_bin, '|η|')}"
            cells[Quantity(group, where, "fraction")] = np.flatnonzero(strip & inside(truth.pt, pt_bin))
    return cells


def least_errors(truth: Truth) -> dict[Quantity, float]:
    """Give the least error of an efficiency: of n particles, 1/n, where none or all were found."""
    return {quantity: 1 / len(cell) for quantity, cell in efficiency_cells(truth).items() if len(cell)}


def efficiencies(truth: Truth, particle: I8) -> Values:
    """Give the share of the particles that have a track, NaN where there are none."""
    found = np.zeros(len(truth.pt), dtype=bool)
    found[particle] = True
    cells = efficiency_cells(truth)
    return {quantity: float(found[cell].mean()) if len(cell) else np.nan for quantity, cell in cells.items()}


def resolutions(group: str, truth: Truth, candidates: Ragged, particle: I8, track: I8) -> Values:
    """Give pT of the track over pT of the particle, in windows of pT and bins of |eta|."""
    ratio = np.hypot(candidates["px"][track], candidates["py"][track]) / truth.pt[particle]
    pt, eta = truth.pt[particle], np.abs(truth.eta[particle])
    values: Values = {}
    for species, mine in truth.species.items():
        for eta_bin in TRACK_ETA:
            for name, window in TRACK_PT.items():
                cell = mine[particle] & inside(eta, eta_bin) & inside(pt, window)
                values |= spread_of(f"{group}, {species}", f"pT ≈ {name}, {name_of(eta_bin, '|η|')}", ratio[cell])
    return values


def tracking(truth: Truth, flow: Candidates, bare: Candidates | None) -> Values:
    """Give efficiencies and resolutions, of the energy-flow tracks and of those before the calorimeters (`bare`)."""
    particle, track = tracks_of(truth, flow.candidates)
    values = efficiencies(truth, particle)
    values |= resolutions("e-flow track pT", truth, flow.candidates, particle, track)
    if bare is not None:
        values |= resolutions("track pT", truth, bare.candidates, *tracks_of(truth, bare.candidates))
    return values


# --- energy flow -------------------------------------------------------------------------------------------------


def kinds(candidates: Ragged) -> dict[str, Mask]:
    """Mark tracks, photons and neutral hadrons, by the names of Delphes's branches."""
    kind = candidates["kind"]
    tracks = candidates["charge"] != 0
    return {"EFlowTrack": tracks, "EFlowPhoton": kind == PHOTON, "EFlowNeutralHadron": kind == NEUTRAL_HADRON}


def energy_flow(truth: Truth, flow: Candidates) -> Values:
    """Give numbers and summed pT (|eta| < 2.5) of the candidates an event, and their energy over the generator's."""
    rows, n = flow.candidates, len(flow.event)
    pt = np.hypot(rows["px"], rows["py"])
    central = np.abs(rows["pz"]) < np.sinh(2.5) * pt
    values: Values = {}
    for name, mine in kinds(rows).items():
        values[Quantity("e-flow", name, "number")] = float(mine.sum() / n)
        values[Quantity("e-flow", f"{name}, pT", "sum")] = float(pt[mine & central].sum() / n)
    energy = _sums(row_of(rows.offsets), rows["e"], n)
    return values | spread_of("e-flow", "energy over generator's, |η| < 5", energy / truth.visible_energy)


# --- jets --------------------------------------------------------------------------------------------------------


def _jets(hadrons: Hadrons, rows: Ragged, pt_min: float, eta_max: float) -> Jets:
    return cluster(rows, hadrons.heavy, JetSettings(radius=0.8, pt_min=pt_min, eta_max=eta_max))


def matched_jets(truth: Truth, flow: Candidates) -> dict[str, F8]:
    """Match jets to the generator's: `gen_pt`, and of each pair what the names say."""
    gen, reco = truth.jets, _jets(flow.hadrons, flow.candidates, 150.0, 10.0)
    found, _ = match(gen.row, gen.eta, gen.phi, reco.row, reco.eta, reco.phi, 0.4)
    matched = np.flatnonzero(found >= 0)
    reco, gen_pt, gen_mass = reco.take(found[matched]), gen.pt[matched], truth.jet_mass[matched]
    reco_mass = mass((reco.px, reco.py, reco.pz, reco.e))
    return {
        "gen_pt": gen_pt,
        "pT response": reco.pt / gen_pt,
        "mass ratio": reco_mass / gen_mass,
        "mass": reco_mass,
        "mass less generator's": reco_mass - gen_mass,
        "soft-drop mass": softdrop_mass(reco, flow.candidates),
        "constituents": np.diff(reco.offsets).astype(np.float64),
    }


def jets(truth: Truth, flow: Candidates) -> Values:
    """Give pT and mass of R = 0.8 jets over those of the generator's, and what the jets look like."""
    found = matched_jets(truth, flow)
    gen_pt = found.pop("gen_pt")
    values: Values = {Quantity("jets", "matched", "fraction"): len(gen_pt) / max(len(truth.jets.row), 1)}
    for window in JET_PT:
        response = found["pT response"][inside(gen_pt, window)]
        values |= spread_of("jets", f"pT response, {name_of(window, 'pT')}", response)
    for name, column in found.items():
        values |= spread_of("jets", name, column)
    return {quantity: value for quantity, value in values.items() if quantity not in _NEAR_ZERO}


def softdrop_mass(found: Jets, rows: Ragged) -> F8:
    """Give the soft-drop mass of jets (z_cut 0.1, beta 0)."""
    px, py, pz, e = (rows[name][found.members] for name in ("px", "py", "pz", "e"))
    return softdrop(kinematics((px, py, pz, e)), found.offsets, 0.1, 0.0, 0.8)["softdrop_mass"]


def measure(truth: Truth, flow: Candidates, bare: Candidates | None = None) -> Values:
    """Give all quantities of one pass over the events of a sample."""
    return tracking(truth, flow, bare) | energy_flow(truth, flow) | jets(truth, flow)


# --- particle gun ------------------------------------------------------------------------------------------------


def measure_gun(truth: Truth, flow: Candidates, bare: Candidates) -> Values:
    """Give tracking and the calorimeters' response of one pass over the events of the particle gun."""
    values = {q: v for q, v in tracking(truth, flow, bare).items() if q.group != "tracking efficiency, outer eta"}
    for species, pdg, kind in (("photon", 22, PHOTON), ("K0L", 130, NEUTRAL_HADRON)):
        values |= _calorimeter(species, pdg, kind, flow)
    return values


def _calorimeter(species: str, pdg: int, kind: int, flow: Candidates) -> Values:
    """Give the energy seen within dR < 0.3 of each particle over its own; zeros are counted apart."""
    particles = flow.hadrons.particles
    chosen = np.flatnonzero(particles["id"] == pdg)
    pt = np.hypot(particles["px"], particles["py"])[chosen]
    eta = np.abs(np.arcsinh(particles["pz"][chosen] / pt))
    response = _seen_near(flow, chosen, kind) / particles["e"][chosen]
    values: Values = {}
    for eta_bin in GUN_ETA:
        for energy in GUN_PT:
            cell = response[inside(eta, eta_bin) & (np.abs(pt - energy) < 0.01 * energy)]
            where = f"pT = {energy:.0f}, {name_of(eta_bin, '|η|')}"
            group = "ECAL response, photon" if species == "photon" else "HCAL response, K0L"
            values[Quantity(group, where, "fraction")] = float((cell > 0).mean())
            values |= spread_of(group, where, cell[cell > 0])
    return values


def _seen_near(flow: Candidates, chosen: I8, kind: int) -> F8:
    """Sum the energy of candidates of a kind near chosen particles, which lie far from each other."""
    particles, rows = flow.hadrons.particles, flow.candidates
    mine = np.flatnonzero(rows["kind"] == kind)
    row = row_of(rows.offsets)[mine]
    of_event = offsets_of(np.bincount(row_of(particles.offsets)[chosen], minlength=len(flow.event)))
    pairs = offsets_of(np.diff(of_event)[row])
    candidate = row_of(pairs)
    place = np.arange(pairs[-1]) - pairs[candidate] + of_event[row[candidate]]
    (eta, phi), (seen_eta, seen_phi) = (
        _direction({n: table[n][which] for n in ("px", "py", "pz")})
        for table, which in ((particles, chosen), (rows, mine))
    )
    turn = (seen_phi[candidate] - phi[place] + np.pi) % (2 * np.pi) - np.pi
    near = np.hypot(seen_eta[candidate] - eta[place], turn) < _GUN_CONE
    return _sums(place[near], rows["e"][mine[candidate[near]]], len(chosen))


def _direction(momentum: Mapping[str, F8]) -> tuple[F8, F8]:
    pt = np.hypot(momentum["px"], momentum["py"])
    return np.arcsinh(momentum["pz"] / pt), np.arctan2(momentum["py"], momentum["px"])


# --- the reference's own numbers -----------------------------------------------------------------------------------


def reference_values(sample: Mapping[str, Any]) -> tuple[Values, dict[Quantity, float]]:
    """Read a sample's (or the gun's) quantities out of `response.json`, and errors that it quotes."""
    values: Values = {}
    errors: dict[Quantity, float] = {}
    groups = {f"tracking efficiency, {name}": cells for name, cells in sample["tracking_efficiency"].items()}
    outer = sample.get("tracking_efficiency_outer_eta", {})
    groups["tracking efficiency, outer eta"] = outer.get("charged_hadron", [])
    for group, cells in groups.items():
        for cell in cells:
            where = f"{name_of(tuple(cell['pt_GeV']), 'pT')}, {name_of(tuple(cell['abs_eta']), '|η|')}"
            values[Quantity(group, where, "fraction")] = cell["eff"]
            errors[Quantity(group, where, "fraction")] = cell["err"]
    for name, group in (("track_pt_resolution", "track pT"), ("eflow_track_pt_resolution", "e-flow track pT")):
        for species, cells in sample[name].items():
            for cell in cells:
                where = f"pT ≈ {cell['pt_GeV']}, {name_of(tuple(cell['abs_eta']), '|η|')}"
                values |= _statistics(f"{group}, {species}", where, cell, "rel_dpt_", 1.0)
                errors[Quantity(f"{group}, {species}", where, "sigma68")] = cell["rel_dpt_sigma68_err"]
    own = _of_calorimeters if "calorimeter_response" in sample else _of_events
    return values | dict(own(sample)), errors


def _statistics(group: str, where: str, found: Mapping[str, float], prefix: str = "", shift: float = 0.0) -> Values:
    return {
        Quantity(group, where, "mean"): found[f"{prefix}mean"] + shift,
        Quantity(group, where, "std"): found[f"{prefix}std"],
        Quantity(group, where, "sigma68"): found[f"{prefix}sigma68"],
    }


def _of_calorimeters(gun: Mapping[str, Any]) -> Iterator[tuple[Quantity, float]]:
    branches = {"photon": ("ECAL", "eflow_photon_E"), "K0L": ("HCAL", "eflow_neutral_hadron_E")}
    for cell in gun["calorimeter_response"]:
        detector, branch = branches[cell["species"]]
        group = f"{detector} response, {cell['species']}"
        where = f"pT = {cell['pt_GeV']:.0f}, {name_of(tuple(cell['abs_eta']), '|η|')}"
        yield Quantity(group, where, "fraction"), cell[branch]["frac_nonzero"]
        yield from _statistics(group, where, cell[branch], "response_").items()


_JET_NAMES = {
    "pt_response": "pT response",
    "mass_ratio": "mass ratio",
    "reco_mass": "mass",
    "reco_minus_gen_mass": "mass less generator's",
    "reco_mass_softdrop": "soft-drop mass",
    "reco_n_constituents": "constituents",
}


def _of_events(sample: Mapping[str, Any]) -> Iterator[tuple[Quantity, float]]:
    for name, spectrum in sample["eflow_spectrum"].items():
        yield Quantity("e-flow", name, "number"), sample["multiplicity_per_event"][name]["mean"]
        yield Quantity("e-flow", f"{name}, pT", "sum"), spectrum["sum_pt_per_event_mean_GeV"]
    energy = sample["event_energy_ratio"]["eflow_over_gen_visible_abs_eta_lt5"]
    yield from _statistics("e-flow", "energy over generator's, |η| < 5", energy).items()
    found = sample["jets_R08_eflow_vs_gen"]
    yield Quantity("jets", "matched", "fraction"), found["match_eff"]
    for key, name in _JET_NAMES.items():
        yield from ((q, v) for q, v in _statistics("jets", name, found[key]).items() if q not in _NEAR_ZERO)
    for window in JET_PT:
        cell = found["pt_response_bins"].get(f"{window[0]:g}-{window[1]:g}")
        if cell and "mean" in cell:
            yield from _statistics("jets", f"pT response, {name_of(window, 'pT')}", cell).items()

"""What settings of the second lane need of each other: one line that says what to do, and nothing is written."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resim.config import Config
from resim.errors import UserError
from resim.lartpc.charge import drift_velocity
from resim.lartpc.geometry import geometry
from resim.lartpc.readout import Digitisation
from resim.lartpc.voxels import VoxelSettings
from resim.plan import check_config, plan_views
from resim.simulate import Simulation, simulate_part
from resim.store import Part
from resim.typed import card_of, parse
from tests.conftest import resim
from tests.lanes import LARTPC

Chain = dict[str, dict[str, Any]]
MODULE0: Chain = {"charge": {"geometry": "module0"}, "gun": {"centre": [0, 0, 0], "half_size": [10, 20, 10]}}
ELECTRONICS = {"gain": 8.0, "v_cm": 100.0, "v_ref": 2000.0, "v_pedestal": 250.0}


def config_of(chain: Chain | None = None, views: dict[str, Any] | None = None, **proton: Any) -> Config:
    """Lay settings over the small config: by stage, views beside nominal, and those of the sample of protons."""
    values = LARTPC.config()
    for stage, settings in (chain or {}).items():
        values["chain"][stage] = {**values["chain"][stage], **settings}
    values["views"] = {"nominal": {}, **(values["views"] if views is None else views)}
    values["samples"]["proton"]["set"] = proton
    return parse(Config, values, "my.yaml")


def cut(stage: str, **changes: Any) -> dict[str, Any]:
    return {"x": {"from": stage, "set": changes}}


def settings(config: Config, view: str, stage: str) -> dict[str, Any]:
    path = next(found.path for found in plan_views(config) if found.name == view)
    return dict(next(step.settings for step in path if step.stage == stage))


def made(config: Config, folder: Path, *views: str) -> Part:
    check_config(config, "my.yaml")
    simulation = Simulation(config, "proton")
    return simulate_part(simulation, 0, 20, folder, [v for v in simulation.all_views if v.name in (views or "nominal")])


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (
            cut("charge", lifetime={"uniform": [-300, 5000]}),
            "views.x.set: lifetime: input should be greater than or equal to 1, not -300.0",
        ),
        (
            cut("charge", diffusion_trans={"log_uniform": [1e-6, 0.1]}),
            "views.x.set: diffusion_trans: input should be less than or equal to 0.001, not 0.1",
        ),
        (
            cut("readout", dead_fraction={"uniform": [0.5, 1.01]}),
            "views.x.set: dead_fraction: input should be less than or equal to 1, not 1.01",
        ),
    ],
)
def test_both_ends_of_a_range_are_checked(views: dict[str, Any], message: str) -> None:
    """The middles of eight steps are all allowed, but a stage that takes a number for each event draws any."""
    refused(config_of(views=views), message)


def test_steps_of_a_range_are_checked_by_their_middles() -> None:
    check_config(config_of(views=cut("charge", lifetime={"uniform": [-300, 5000], "values": 2})), "my.yaml")


def refused(config: Config, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config(config, "my.yaml")
    assert str(caught.value) == f"my.yaml: {message}"


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (
            {"readout": {"dead_pixels": [-5, 10**12]}},
            "chain.readout: dead_pixels.0: input should be greater than or equal to 0, not -5",
        ),
        (
            {"readout": {"dead_pixels": [5, 10**12]}},
            "chain: dead_pixels: there is no pixel 1000000000000; 'ndlar' has 0 to 14335999; remove it",
        ),
        (
            {"readout": {"max_hits": 10**12}},
            "chain.readout: max_hits: input should be less than or equal to 10000, not 1000000000000",
        ),
        (
            {"readout": {"hold": 10**12}},
            "chain.readout: hold: input should be less than or equal to 10000, not 1000000000000",
        ),
        (
            {"readout": {"v_pedestal": 1400.0}},
            "chain.readout: v_pedestal 1400.0 must be from v_cm 288.0 to below v_ref 1300.0",
        ),
        (
            {"readout": {"v_pedestal": 200.0}},
            "chain.readout: v_pedestal 200.0 must be from v_cm 288.0 to below v_ref 1300.0",
        ),
        (
            {"voxels": {"size": 1e-30}},
            "chain.voxels: size: input should be greater than or equal to 0.01, not 1e-30",
        ),
        (
            {"charge": {"diffusion_long": 1e-3}},
            "chain.charge: diffusion_long: input should be less than or equal to 0.00005, not 0.001",
        ),
        (
            {"charge": {"geometry": "icarus"}},
            "chain.charge: geometry: there is no geometry 'icarus'; take one of ndlar, module0",
        ),
        (
            {"deposits": {"world_half_size": [1e9, 1, 1]}},
            "chain.deposits: world_half_size must be positive and at most 10000 cm, got [1000000000.0, 1.0, 1.0]",
        ),
    ],
)
def test_numbers_out_of_bounds(chain: Chain, message: str) -> None:
    refused(config_of(chain), message)


def test_settings_of_a_view_are_checked_with_those_that_they_are_laid_over() -> None:
    """A pedestal of 250 mV is below the default range of counts, and in the chain's own."""
    check_config(config_of({"readout": ELECTRONICS}, cut("readout", v_pedestal=150.0)), "my.yaml")
    message = "views.x.set: v_pedestal 250.0 must be from v_cm 300.0 to below v_ref 2000.0"
    refused(config_of({"readout": ELECTRONICS}, cut("readout", v_cm=300.0)), message)


@pytest.mark.parametrize(
    ("chain", "views", "message"),
    [
        (
            {},
            cut("charge", box_beta={"uniform": [0.1, 0.3]}),
            "views.x: 'box_beta' does nothing with `recombination: b",
        ),
        (
            {"charge": {"box_alpha": 0.9}},
            {},
            "chain: 'box_alpha' does nothing with `recombination: birks`; set `recomb",
        ),
        (
            {},
            cut("charge", recombination="box", birks_k=0.05),
            "views.x: 'birks_k' does nothing with `recombination: box`; set `recombination: birks` with it, or remove",
        ),
        (
            {"charge": {"recombination": "box"}},
            cut("charge", birks_a=0.7),
            "views.x: 'birks_a' does nothing with `recombination: box`; set `recombination: birks` with it, or remove",
        ),
        (
            {},
            cut("voxels", velocity=None),
            "views.x: velocity: null is what the view has anyway; remove the line, or giv",
        ),
        (
            {},
            cut("voxels", calibration=None),
            "views.x: calibration: null is what the view has anyway; remove the line",
        ),
    ],
)
def test_settings_without_effect(chain: Chain, views: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_config(config_of(chain, views), "my.yaml")
    assert str(caught.value).startswith(f"my.yaml: {message}")


def test_constants_of_the_model_that_is_taken_have_an_effect() -> None:
    views = cut("charge", recombination="box", box_beta={"uniform": [0.15, 0.25]})
    check_config(config_of({"charge": {"birks_a": 0.79}}, views), "my.yaml")


def test_an_opening_angle_without_a_beam() -> None:
    message = (
        "samples.proton.set: 'opening_angle' does nothing with `direction: isotropic`; set `direction: beam` with it, "
        "or remove it, also from chain.gun"
    )
    refused(config_of(opening_angle=5.0), message)
    check_config(config_of(opening_angle=5.0, direction="beam"), "my.yaml")


def test_the_argon_is_that_of_the_geometry() -> None:
    """Its box is that round all drift volumes, and a metre on all sides."""
    for name, low, high in (
        ("ndlar", (-456.7, -248.613, 313.72), (456.7, 255.387, 1016.68)),
        ("module0", (-130.58975, -162.076, -131.038), (130.58975, 162.076, 131.038)),
    ):
        middle, half = map(np.array, geometry(name).argon())
        np.testing.assert_allclose(np.array([middle - half, middle + half]), [low, high], atol=1e-6)
    assert settings(config_of(MODULE0), "nominal", "deposits")["world_half_size"] == (130.58975, 162.076, 131.038)
    chain = {"deposits": {"world_half_size": [200, 200, 200], "world_centre": None}}
    given = settings(config_of(chain), "nominal", "deposits")
    assert given["world_half_size"] == (200, 200, 200)
    assert given["world_centre"] == (0.0, 3.387, 665.2)


@pytest.mark.parametrize("proton", [{}, {"centre": [0, 0, 0], "half_size": [50, 50, 132]}])
def test_vertices_outside_the_argon(proton: dict[str, Any], tmp_path: Path, write_config: Any) -> None:
    """The box of the shipped config does not lie in another detector."""
    values = LARTPC.config()
    values["chain"]["charge"]["geometry"] = "module0"
    values["samples"] = {"proton": {"events": 20, "process": "proton", "set": proton}}
    low, high = (
        ([-50.0, -50.0, -132.0], [50.0, 50.0, 132.0]) if proton else ([-50.0, -46.6, 600.0], [50.0, 53.4, 700.0])
    )
    config = write_config(values)
    done = resim("simulate", "--config", config, "--sample", "proton", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()
    assert done.stderr == (
        f"resim: {config}: samples.proton: vertices from {low} to {high} cm leave the argon, "
        "from [-130.58975, -162.076, -131.038] to [130.58975, 162.076, 131.038] in this geometry; "
        "change centre and half_size of chain.gun, or of the sample's set\n"
    )


def test_the_argon_is_the_same_in_all_views() -> None:
    message = "views.x.set: 'world_half_size' says which objects there are, for all views; set it in `chain`"
    refused(config_of(views=cut("deposits", world_half_size=[100, 100, 100])), message)


def test_another_detector_sees_its_particles(tmp_path: Path) -> None:
    """With a geometry and vertices alone; deposits that are kept are not those of another geometry's argon."""
    config = config_of(MODULE0, {})
    part = made(config, tmp_path)
    assert part.view("nominal").present.sum() >= 18
    recipes = [
        Simulation(config_of(chain, {}), "proton").checkpoint_recipes["deposits"]
        for chain in (MODULE0, {"gun": MODULE0["gun"]})
    ]
    assert recipes[0] != recipes[1]


def test_a_part_without_an_image_is_told(tmp_path: Path, write_config: Any) -> None:
    values = LARTPC.config(views={"nominal": {}, "low": {"from": "readout", "set": {"threshold": 5000.0}}})
    values["samples"] = {"proton": {"events": 20, "process": "proton", "set": {"kinetic_energy": [50, 60]}}}
    values["chain"]["readout"] = {"threshold": 1e8}
    out = tmp_path / "out"
    done = resim("simulate", "--config", write_config(values), "--sample", "proton", "--out", out)
    assert done.returncode == 0
    assert done.stderr == (
        f"resim: warning: {out}/part-00000000-00000020: none of its 20 events gives an object in nominal; "
        "see where they start, and the thresholds\n"
    )


def test_counts_are_read_by_the_electronics_of_the_chain(tmp_path: Path) -> None:
    """Twice the gain and another pedestal give the same charge, to the noise; what a view throws is not known."""
    other = {"readout": ELECTRONICS | {"adc_counts": 4096}}
    views = cut("readout", gain=4.0)
    usual = made(config_of({"readout": {"adc_counts": 4096}}, {}), tmp_path / "a").view("nominal")
    part = made(config_of(other, views), tmp_path / "b", "nominal", "x")
    changed, thrown = part.view("nominal"), part.view("x")
    both = usual.present & changed.present
    np.testing.assert_allclose(changed.column("charge")[both].sum(), usual.column("charge")[both].sum(), rtol=0.01)
    ratio = thrown.column("charge")[both].sum() / changed.column("charge")[both].sum()
    assert ratio == pytest.approx(0.5, abs=0.02)


def test_a_calibration_lies_over_the_electronics() -> None:
    config = config_of({"readout": ELECTRONICS, "voxels": {"calibration.gain": 5.0, "velocity": None}}, {})
    card = card_of(VoxelSettings, tuple(settings(config, "nominal", "voxels").items()))
    assert card.calibration == Digitisation(**(ELECTRONICS | {"gain": 5.0}))
    assert card.velocity == pytest.approx(0.159645, rel=1e-5)
    null = config_of({"readout": ELECTRONICS, "voxels": {"calibration": None}}, {})
    assert settings(null, "nominal", "voxels")["calibration.gain"] == 8.0


def test_positions_follow_from_the_field_of_the_chain_and_no_throw() -> None:
    chain = {"charge": {"field": 0.3, "temperature": 89.0}}
    config = config_of(chain, cut("charge", field=0.6, temperature=95.0))
    wanted = float(drift_velocity(0.3, 89.0))
    assert settings(config, "nominal", "voxels")["velocity"] == settings(config, "x", "voxels")["velocity"] == wanted
    drawn = config_of({"charge": {"field": {"uniform": [0.2, 0.4]}}, "readout": {"gain": {"choose": [2.0, 3.0, 9.0]}}})
    assert settings(drawn, "nominal", "voxels")["velocity"] == pytest.approx(float(drift_velocity(0.3, 87.17)))
    assert settings(drawn, "nominal", "voxels")["calibration.gain"] == 3.0


def test_recipes_depend_on_what_images_are_read_by() -> None:
    def recipe(chain: Chain) -> str:
        simulation = Simulation(config_of(chain, {}), "proton")
        return simulation.recipe(simulation.all_views[0])

    plain = recipe({})
    assert recipe({"voxels": {"calibration": None, "velocity": None}}) == plain
    assert len({plain, recipe({"voxels": {"calibration.gain": 5.0}}), recipe({"voxels": {"velocity": 0.15}})}) == 3


def test_a_slow_drift_does_not_stretch_the_nominal_image(tmp_path: Path) -> None:
    """Protons at one place: the mean of x over events is where they start, at half the field, too."""
    gun = {"centre": [30.0, 3.4, 650.0], "half_size": [1.0, 5.0, 5.0], "kinetic_energy": [50, 60]}
    parts = [made(config_of({"charge": {"field": f}}, {}, **gun), tmp_path / str(f)) for f in (0.25, 0.5)]
    means = [np.nanmean(part.view("nominal").column("x_mean")) for part in parts]
    assert means == pytest.approx([30.0, 30.0], abs=0.6)
    assert means[0] == pytest.approx(means[1], abs=0.2)

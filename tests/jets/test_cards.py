"""The detector cards: complete, neutral, and laid over each other as a config says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resim.errors import UserError
from resim.jets.cards import DetectorSettings, detector_settings, load_card
from resim.jets.lane import JetsLane

SHIPPED = ("atlas", "cms")
CMS = detector_settings({}, "test")


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_there_to_be_varied_is_neutral_in_the_shipped_cards(name: str) -> None:
    card = detector_settings({"card": name}, "test")
    for calorimeter in (card.ecal, card.hcal):
        assert (calorimeter.scale, calorimeter.resolution_factor, calorimeter.coarsen, calorimeter.dead) == (
            1,
            1,
            1,
            (),
        )
    tracking = card.tracking
    assert (tracking.scale, tracking.resolution_factor, tracking.efficiency_factor, tracking.dead) == (1, 1, 1, ())
    assert tracking.impact.resolution_factor == 1


def test_the_models_have_no_numbers_of_their_own() -> None:
    with pytest.raises(ValueError, match="magnetic_field"):
        DetectorSettings.model_validate({})
    for name in SHIPPED:
        assert set(load_card(name)["ecal"]) == set(load_card(name)["hcal"]) == set(type(CMS.ecal).model_fields)


def test_cms_is_meant_where_no_card_is_named() -> None:
    assert detector_settings({"card": "cms"}, "test") == CMS
    assert detector_settings({"card": "atlas"}, "test").magnetic_field == 2.0
    assert CMS.magnetic_field == 3.8


def test_what_is_named_changes_and_the_rest_stays() -> None:
    settings = detector_settings({"ecal": {"stochastic": 0.2}, "tracking": {"impact": {"d0_a": 0.1}}}, "test")
    assert settings.ecal == CMS.ecal.model_copy(update={"stochastic": 0.2})
    impact = CMS.tracking.impact.model_copy(update={"d0_a": 0.1})
    assert settings.tracking == CMS.tracking.model_copy(update={"impact": impact})
    assert settings.hcal == CMS.hcal


def test_lists_are_replaced_as_a_whole() -> None:
    ring = {"eta_max": 2.0, "eta_cells": 10, "phi_cells": 36}
    settings = detector_settings({"ecal": {"rings": [ring], "dead": [[0, 1, 3, -3]]}}, "test")
    assert [r.model_dump() for r in settings.ecal.rings] == [ring]
    assert settings.ecal.dead == ((0, 1, 3, -3),)


def test_a_card_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    shipped = Path("resim/jets/cards/cms.yaml").read_text(encoding="utf-8")
    own.write_text(shipped.replace("magnetic_field: 3.8", "magnetic_field: 4.0"), encoding="utf-8")
    assert detector_settings({"card": str(own)}, "test") == CMS.model_copy(update={"magnetic_field": 4.0})


def test_a_card_of_ones_own_must_be_complete(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("magnetic_field: 4.0\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^config.yaml: chain.detector: card: detector card .*own.yaml: radius: "):
        detector_settings({"card": str(own)}, "config.yaml: chain.detector")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"card": "cmss"}, "there is no detector card 'cmss'; shipped are atlas, cms; or give a YAML file"),
        ({"card": 3}, "card: must be a card's name or the path of a YAML file, not 3"),
        ({"magnetic_fild": 3.8}, "unknown key 'magnetic_fild'; allowed here: magnetic_field, radius"),
        ({"ecal": {"stochastik": 0.1}}, "unknown key 'ecal.stochastik'; allowed here: rings"),
        ({"radius": -1}, "radius: input should be greater than 0, not -1"),
        ({"radius": float("inf")}, "radius: input should be a finite number"),
        ({"ecal": {"stochastic": -0.1}}, "ecal.stochastic: input should be greater than or equal to 0"),
        ({"ecal": {"coarsen": 1.5}}, "ecal.coarsen: input should be a valid integer"),
        ({"ecal": {"stochastic": True}}, "ecal.stochastic: input should be a valid number, not True"),
        ({"ecal": {"coarsen": True}}, "ecal.coarsen: input should be a valid number, not True"),
        ({"ecal": {"endcap_noise": False}}, "ecal.endcap_noise: input should be a valid number, not False"),
        ({"hcal": {"dead": [[0, 1, False, 2]]}}, "hcal.dead.0.2: input should be a valid number, not False"),
        ({"ecal": {"dead": [[1, 0, 0, 1]]}}, r"ecal: dead: .* must be \[eta_min, eta_max, phi_min, phi_max\]"),
        ({"hcal": {"dead": [[0, 1]]}}, "hcal.dead.0"),
        ({"tracking": {"impact": {"d0_c": 1}}}, "tracking.impact.d0_c"),
        ({"tracking": {"hadron_efficiency": {"pt_edges": [1, 0.1]}}}, "pt_edges must rise"),
        ({"tracking": {"hadron_efficiency": {"values": [[1.2, 1], [1, 1]]}}}, "values must lie in 0..1"),
        ({"tracking": {"hadron_resolution": {"a": [0.1]}}}, "a and b need 3 numbers"),
    ],
)
def test_what_is_not_allowed_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^here: .*{message}") as caught:
        detector_settings(values, "here")
    assert "\n" not in str(caught.value)


def test_the_recipe_has_the_whole_card() -> None:
    """A changed card file makes another recipe, whatever its name."""
    nominal = JetsLane.resolved("detector", ())
    assert nominal[1] == CMS.model_dump(mode="json")
    assert JetsLane.resolved("detector", (("card", "cms"),)) == nominal
    assert JetsLane.resolved("detector", (("card", "atlas"),)) != nominal
    assert JetsLane.resolved("detector", (("ecal.dead", ((0, 1, 0, 1),)),))[1]["ecal"]["dead"] == [[0, 1, 0, 1]]


def test_resolution_terms_follow_the_zones() -> None:
    """Barrel 1 + 0.64 eta^2, end cap 2.16 + 5.6 (|eta| - 2)^2, forward terms of its own."""
    eta = np.array([0.0, -1.0, 2.0, -2.4, 3.0])
    shape = np.array([1, 1.64, 2.16, 2.16 + 5.6 * 0.16])
    constant, stochastic, noise = CMS.ecal.terms(eta)
    np.testing.assert_allclose(constant, [*(0.008 * shape), 0.107])
    np.testing.assert_allclose(stochastic, [*(0.11 * shape), 2.08])
    np.testing.assert_allclose(noise, [*(0.40 * shape), 0])
    twice = CMS.ecal.model_copy(update={"resolution_factor": 2.0}).terms(eta)
    np.testing.assert_allclose(twice, 2 * np.array([constant, stochastic, noise]))


def test_an_end_cap_may_have_terms_of_its_own() -> None:
    terms = detector_settings({"card": "atlas"}, "test").hcal.terms(np.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(terms, [[0.0302, 0.05, 0.0942], [0.5205, 0.706, 1.0], [1.59, 0, 0]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ecal": {"long_lived": 0.9}}, r"ecal.long_lived \+ hcal.long_lived = 1.6: shares of one energy, at most 1"),
        (
            {"ecal": {"rings": [{"eta_max": 3.0, "eta_cells": 170000, "phi_cells": 360000}]}},
            r"cells, at most 5000000 are",
        ),
    ],
)
def test_what_no_detector_can_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        detector_settings(values, "test")

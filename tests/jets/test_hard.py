import numpy as np
import pytest

from resim.errors import UserError
from resim.jets.hard import from_checkpoint, generate, to_checkpoint
from resim.store import join
from tests.jets.events import ENERGY, SEED, hard_block, hard_settings

SAMPLES = ("qcd", "hbb")


def _equal(a: object, b: object) -> bool:
    columns = a.partons.columns  # type: ignore[attr-defined]
    same = [np.array_equal(columns[name], b.partons.columns[name]) for name in columns]  # type: ignore[attr-defined]
    return all(same) and all(
        np.array_equal(getattr(a, n), getattr(b, n)) for n in ("event", "weight", "scale", "process")
    )


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_block_is_the_same_whatever_was_made_before(sample: str) -> None:
    """Pythia updates its phase-space maximum as it goes unless told not to: blocks would depend on their order."""
    generate(hard_settings(sample), SEED, sample, 5, 200)
    again = generate(hard_settings(sample), SEED, sample, 0, 30)
    assert _equal(again, hard_block(sample))


@pytest.mark.parametrize("sample", SAMPLES)
def test_four_momentum_is_conserved(sample: str) -> None:
    p = hard_block(sample).partons
    for name in ("px", "py", "pz", "e"):
        incoming = np.add.reduceat(np.where(p["status"] == -21, p[name], 0), p.offsets[:-1])
        outgoing = np.add.reduceat(np.where(p["status"] > 0, p[name], 0), p.offsets[:-1])
        np.testing.assert_allclose(incoming, outgoing, atol=1e-6 * ENERGY)


def test_blocks_are_different_and_ids_go_on() -> None:
    a, b = hard_block("qcd", 0), hard_block("qcd", 1)
    assert b.event[0] == a.event[-1] + 1
    assert not np.isin(a.scale, b.scale).any()


def test_cuts_hold_and_weights_undo_the_bias() -> None:
    """Weight times (pTHat / reference) ** power is one (Pythia's manual); to 1e-4, since charm and bottom have mass."""
    settings = hard_settings("qcd")
    h = hard_block("qcd")
    p = h.partons
    pt = np.hypot(p["px"], p["py"])[p["status"] == 23].reshape(-1, 2)[:, 0]
    assert settings["PhaseSpace:pTHatMin"] <= pt.min()
    assert pt.max() <= settings["PhaseSpace:pTHatMax"]
    reference, power = settings["PhaseSpace:bias2SelectionRef"], settings["PhaseSpace:bias2SelectionPow"]
    np.testing.assert_allclose(h.weight * (pt / reference) ** power, 1, rtol=1e-3)


def test_higgs_decays_to_bottom_and_z_to_neutrinos() -> None:
    p = hard_block("hbb").partons
    resonances = p["id"][p["status"] == -22].reshape(-1, 2)
    assert (np.sort(resonances, axis=1) == [23, 25]).all()
    ends = np.sort(np.abs(p["id"][p["status"] > 0]).reshape(-1, 4), axis=1)
    assert (ends[:, :2] == 5).all()
    assert np.isin(ends[:, 2:], (12, 14, 16)).all()


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_checkpoint_gives_every_bit_back(sample: str) -> None:
    blocks = [hard_block(sample, 0), hard_block(sample, 1)]
    whole = from_checkpoint(join([to_checkpoint(block) for block in blocks]))
    for number, block in enumerate(blocks):
        found = whole.take(whole.event // len(block.event) == number)
        for name in ("event", "process", "weight", "scale", "alpha_qcd", "alpha_qed"):
            assert getattr(found, name).dtype == getattr(block, name).dtype
            assert getattr(found, name).tobytes() == getattr(block, name).tobytes()
        assert found.partons.offsets.tobytes() == block.partons.offsets.tobytes()
        assert list(found.partons.columns) == list(block.partons.columns)
        for name, column in block.partons.columns.items():
            assert found.partons[name].dtype == column.dtype
            assert found.partons[name].tobytes() == column.tobytes()


def test_parton_pt_alone_does_not_tell_the_samples_apart() -> None:
    """Both spectra are flattened alike; the AUC of 600 events against 600 has an error of 0.015."""
    pt = {}
    for sample in SAMPLES:
        partons = hard_block(sample, size=600).partons
        wanted = (partons["id"] == 25) if sample == "hbb" else (partons["status"] == 23) & (partons["mother1"] == 0)
        pt[sample] = np.hypot(partons["px"], partons["py"])[wanted][:: 1 if sample == "hbb" else 2]
    assert len(pt["qcd"]) == len(pt["hbb"]) == 600
    auc = (pt["hbb"][:, None] > pt["qcd"]).mean()
    assert 0.45 < auc < 0.55


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(UserError, match=r"init\(\) failed with \[Beams:eCM = 13000.0\]"):
        generate({"Beams:eCM": 13000.0}, SEED, "none", 0, 1)

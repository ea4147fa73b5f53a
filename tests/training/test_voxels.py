"""Voxels: what networks see of them, which are kept, and generic augmentations."""

from itertools import product

import numpy as np
import pytest

from tests.training.images import SAMPLES, padded, toy_image
from training.augment import voxels as module
from training.augment.voxels import STEPS, Step, any_turn, augment, compacted, turn_about_drift, turned
from training.config import AugmentConfig, VoxelAugmentConfig
from training.data.fetch import strongest
from training.data.voxels import ADC, CHARGE, INPUTS, PLACE, centre, inputs
from training.keys import Draws, generator
from training.lanes import LARTPC, Normalisation

ALONE = {"identity": False, "rotate": "off"} | dict.fromkeys(
    ("translate", "drop", "scale", "scale_voxels", "shift_voxels"), 0
)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Give 60 images, the first empty, the second of one voxel."""
    draws = generator("voxels")
    drawn = [toy_image(SAMPLES[i % 5], draws) for i in range(60)]
    return padded([drawn[0][:0], drawn[1][:1], *drawn[2:]], 100)


def _here(images: np.ndarray) -> np.ndarray:
    return images[:, :, ADC] > 0


def _only(**settings: object) -> AugmentConfig:
    return AugmentConfig(voxels=VoxelAugmentConfig.model_validate({**ALONE, "drawn": 1, **settings}))


def _done(images: np.ndarray, config: AugmentConfig, key: str = "key") -> np.ndarray:
    return augment(images, Draws(np.arange(len(images)), (key,)), config)


def test_inputs_are_those_of_voxels_one_by_one(images: np.ndarray) -> None:
    image = images[7][_here(images)[7]].astype(float)
    middle = np.average(image[:, PLACE], axis=0, weights=image[:, CHARGE])
    expected = [image[:, CHARGE], np.log(image[:, CHARGE]), *(image[:, PLACE] - middle).T, *image[:, PLACE].T]
    found = inputs(images)
    np.testing.assert_allclose(found[7][_here(images)[7]], np.transpose(expected), atol=2e-5)
    assert found.shape == (*images.shape[:2], len(INPUTS))
    assert np.isfinite(found).all()
    assert not found[~_here(images)].any()


def test_charge_below_the_pedestal_is_a_voxel_still(images: np.ndarray) -> None:
    image = images[7:8].copy()
    image[0, 0, CHARGE] = -2
    assert np.isfinite(inputs(image)).all()
    values, present = Normalisation.measured(LARTPC, images)(image)
    assert present.sum() == _here(images)[7].sum()
    assert values[0, 0].any()


def test_normalised_inputs_have_mean_zero_and_width_one_and_no_images_give_no_warning(images: np.ndarray) -> None:
    values, present = Normalisation.measured(LARTPC, images)(images)
    assert values[present].mean(axis=0) == pytest.approx(0, abs=1e-4)
    assert values[present].std(axis=0) == pytest.approx(1, abs=1e-4)
    nothing = Normalisation.measured(LARTPC, images[:1])
    assert (nothing.mean.any(), nothing.width.tolist()) == (False, [1.0] * len(INPUTS))


def test_the_voxels_of_highest_charge_are_kept_in_their_order() -> None:
    charge = np.array([5, 1, 7, 7, 3, 2, 9], dtype=np.float32)
    voxels, offsets = np.column_stack([np.arange(7, dtype=np.float32), charge]), np.array([0, 5, 5, 7])
    kept, cut = strongest(voxels, offsets, 3, 1)
    assert (kept[:, 0].tolist(), cut.tolist()) == ([0, 2, 3, 5, 6], [0, 3, 3, 5])
    kept, cut = strongest(voxels, offsets, 2, 1)
    assert (kept[:, 0].tolist(), cut.tolist()) == ([2, 3, 5, 6], [0, 2, 2, 4])
    assert strongest(voxels, offsets, 5, 1)[0] is voxels


@pytest.mark.parametrize("rotate", ["any", "drift"])
def test_rotation_keeps_the_centre_all_distances_and_charge(images: np.ndarray, rotate: str) -> None:
    after = _done(images, _only(rotate=rotate))
    np.testing.assert_allclose(centre(after), centre(images), atol=1e-4)
    np.testing.assert_array_equal(after[:, :, ADC:], images[:, :, ADC:])
    for before, now in zip(images[1:10, :, PLACE], after[1:10, :, PLACE], strict=True):
        here = (before != 0).any(axis=1)
        first, second = (x[here][:, None].astype(float) - x[here][None] for x in (before, now))
        np.testing.assert_allclose(np.linalg.norm(second, axis=2), np.linalg.norm(first, axis=2), atol=2e-4)
    moved = np.abs(after[:, :, 0] - images[:, :, 0]).max()
    assert moved < 1e-4 if rotate == "drift" else moved > 1


def test_turns_are_uniform_and_a_quarter_about_the_drift_turns_y_into_z() -> None:
    turns = any_turn(generator("turns").standard_normal((20000, 4)))
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    assert np.linalg.det(turns) == pytest.approx(1)
    assert np.abs(turns.mean(axis=0)).max() < 4 * np.sqrt(1 / 3 / 20000)  # of a uniform turn every element is centred
    assert np.trace(turns, axis1=1, axis2=2).mean() == pytest.approx(0, abs=4 / np.sqrt(20000))
    np.testing.assert_allclose(turn_about_drift(np.array([np.pi / 2]))[0] @ [1, 1, 0], [1, 0, 1], atol=1e-12)
    lone = padded([np.array([[1, 2, 3, 80, 5]], dtype=np.float32)], 3)
    np.testing.assert_allclose(turned(lone, turns[:1]), lone, atol=1e-6)


def test_drop_takes_its_share_keeps_one_and_leaves_no_holes(images: np.ndarray) -> None:
    many = np.concatenate([images] * 10)
    after, before = _done(many, _only(drop=0.1)), _here(many).sum(axis=1)
    left = _here(after).sum(axis=1)
    assert left.sum() / before.sum() == pytest.approx(0.9, abs=0.01)
    np.testing.assert_array_equal(_here(after), np.arange(100) < left[:, None])
    assert np.all((left > 0) == (before > 0))
    for some, all_of in zip(after[:20], many[:20], strict=True):
        assert {tuple(v) for v in some} <= {*map(tuple, all_of), (0, 0, 0, 0, 0)}
    assert set(_here(_done(many, _only(drop=0.999))).sum(axis=1)) <= {0, 1, 2}


@pytest.mark.parametrize(("setting", "one_an_image"), [("scale", True), ("scale_voxels", False)])
def test_charge_is_scaled_by_a_quarter(images: np.ndarray, setting: str, one_an_image: bool) -> None:
    many = np.concatenate([images] * 10)
    after = _done(many, _only(**{setting: 0.25}))
    np.testing.assert_array_equal(after[:, :, : ADC + 1], many[:, :, : ADC + 1])
    factors = [a[h, CHARGE] / b[h, CHARGE] for a, b, h in zip(after, many, _here(many), strict=True) if h.any()]
    flat = np.array([f[0] for f in factors]) if one_an_image else np.concatenate(factors)
    assert (flat.mean(), flat.std()) == pytest.approx((1, 0.25), abs=0.03)
    assert (max(np.ptp(f) for f in factors) < 1e-5) == one_an_image


def test_translation_moves_all_alike_and_shifts_each_voxel_by_itself(images: np.ndarray) -> None:
    moved, shaken = (_done(images, _only(**{name: size}))[:, :, PLACE] - images[:, :, PLACE]
                     for name, size in (("translate", 25), ("shift_voxels", 0.3)))  # fmt: skip
    here = _here(images)
    assert np.abs(moved[here]).max() < 25.001
    assert max(np.ptp(m[h], axis=0).max() for m, h in zip(moved, here, strict=True) if h.any()) < 1e-4
    assert (shaken[here].mean(), shaken[here].std()) == pytest.approx((0, 0.3), abs=0.02)
    assert not moved[~here].any()
    assert not shaken[~here].any()


def test_translation_is_uniform_and_each_axis_image_and_turn_has_a_draw_of_its_own(images: np.ndarray) -> None:
    """A uniform shift in +- 25 cm has a variance of 25^2 / 3, and two of them, one after another, twice that."""
    many = np.concatenate([images[2:]] * 40)
    for drawn in (1, 2):
        config = AugmentConfig(voxels=VoxelAugmentConfig.model_validate({**ALONE, "drawn": drawn, "translate": 25}))
        shift = (_done(many, config)[:, 0, PLACE] - many[:, 0, PLACE]).astype(np.float64)
        variance = np.cov(shift.T)
        np.testing.assert_allclose(np.diag(variance), drawn * 25**2 / 3, rtol=0.07)
        np.testing.assert_allclose(variance - np.diag(np.diag(variance)), 0, atol=drawn * 25)
        np.testing.assert_allclose(shift.mean(axis=0), 0, atol=2)
        assert len(np.unique(shift.round(3), axis=0)) > 0.99 * len(many)
        if drawn == 1:
            quarters = np.histogram(shift, [-25, -12.5, 0, 12.5, 25])[0] / shift.size
            np.testing.assert_allclose(quarters, 0.25, atol=0.02)


def test_voxels_are_shifted_and_scaled_independently_of_each_other(images: np.ndarray) -> None:
    """Neighbours in an image and the axes of a voxel have nothing to do with each other."""
    many = np.concatenate([images[2:]] * 10)
    both = _here(many)[:, :2].all(axis=1)
    shift = (_done(many, _only(shift_voxels=0.3))[both, :2, PLACE] - many[both, :2, PLACE]).reshape(-1, 6)
    factor = _done(many, _only(scale_voxels=0.25))[both, :2, CHARGE] / many[both, :2, CHARGE]
    for columns in (shift, factor):
        correlation = np.corrcoef(columns.T) - np.eye(columns.shape[1])
        assert np.abs(correlation).max() < 4.5 / np.sqrt(both.sum())


def test_each_augmentation_is_drawn_as_often_in_every_turn_and_identity_leaves_all(images: np.ndarray) -> None:
    many, seen = np.concatenate([images[2:]] * 20), dict.fromkeys(product(range(3), STEPS), 0)

    def counted(name: str) -> Step:
        def step(x_BPF: np.ndarray, draws: Draws, config: VoxelAugmentConfig) -> np.ndarray:
            seen[draws.words[-1], name] += len(x_BPF)
            return STEPS[name](x_BPF, draws, config)

        return step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "STEPS", {name: counted(name) for name in STEPS})
        _done(many, AugmentConfig())
    np.testing.assert_allclose(np.array(list(seen.values())) / len(many), 1 / 7, atol=0.05)
    np.testing.assert_array_equal(_done(images, _only(identity=True)), images)


def test_three_are_drawn_with_replacement_and_nothing_is_done_where_all_are_off(images: np.ndarray) -> None:
    many = np.concatenate([images[2:]] * 20)
    same = (_done(many, _only(identity=True, translate=25, drawn=3)) == many).all(axis=(1, 2))
    assert same.mean() == pytest.approx(1 / 8, abs=0.03)
    assert _done(many, _only()) is many
    assert set(STEPS) == set(VoxelAugmentConfig.model_fields) - {"drawn"}


def test_the_key_and_the_object_alone_settle_the_draws_also_of_empty_images(images: np.ndarray) -> None:
    first, again, other = (_done(images, AugmentConfig(), key) for key in ("a", "a", "b"))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    some = np.array([50, 0, 27, 1])
    np.testing.assert_array_equal(augment(images[some], Draws(some, ("a",)), AugmentConfig()), first[some])
    assert not first[0].any()
    assert _here(first)[1].sum() == 1
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(compacted(images), images)

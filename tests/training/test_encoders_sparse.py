"""Networks over voxels: sparse convolutions against dense ones, and what every encoder promises."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from tests.training.images import GRID, SAMPLES, padded, toy_image
from training.augment.voxels import compacted
from training.config import STAGES, EncoderConfig, Size
from training.encoders import Encoder, make_encoder
from training.encoders.convnext import ConvNeXt, Halve, Response, merged, pooled
from training.encoders.sparse import Groups, depthwise, image_of, keys, neighbours
from training.keys import generator
from training.lanes import LARTPC, Normalisation

KINDS: dict[str, dict[str, Any]] = {
    "convnext": {"kind": "convnext"},
    "convnext 5": {"kind": "convnext", "kernel": 5},
    "patches": {"kind": "patches", "width": 16, "heads": 2, "layers": 2},
    "plain": {"kind": "plain", "width": 16, "heads": 2, "layers": 1},
}
COARSEST = GRID * 2 ** (len(STAGES["small"].widths) - 1)


def _images() -> np.ndarray:
    """Make five images, one of them of one voxel."""
    draws = generator("sparse")
    images = [toy_image(SAMPLES[i], draws) for i in range(5)]
    return padded([images[0], images[1][:1], *images[2:]], 100)


NORMALISATION = Normalisation.measured(LARTPC, _images())


def _inputs(images: np.ndarray) -> tuple[Tensor, Tensor]:
    values, present = NORMALISATION(images)
    return torch.from_numpy(values), torch.from_numpy(present)


def _encoder(kind: str, seed: int = 0, **changed: Any) -> Encoder:
    config = EncoderConfig.model_validate(KINDS[kind] | changed)
    return make_encoder(config, NORMALISATION, torch.Generator().manual_seed(seed)).eval()


def _gradients(encoder: Encoder, values: Tensor, present: Tensor) -> list[Tensor]:
    encoder.zero_grad()
    (encoder(values, present) * torch.linspace(-1, 1, encoder.width)).sum().backward()
    return [p.grad.clone() for p in encoder.parameters() if p.grad is not None]


def _cells(images: int = 3, edge: int = 8, share: float = 0.15) -> Tensor:
    """Draw keys of occupied cells in small boxes about 0; the second image is empty."""
    occupied = torch.rand(images, edge, edge, edge, generator=torch.Generator().manual_seed(1)) < share
    occupied[1] = False
    image, *place = occupied.nonzero(as_tuple=True)
    return keys(image, torch.stack(place, dim=1) - edge // 2)


def _dense(x_NC: Tensor, key: Tensor, images: int = 3, edge: int = 8) -> Tensor:
    """Put rows into a dense box, (B, C, X, Y, Z)."""
    x, y, z = ((key >> shift & 0xFFFF) - 2**15 + edge // 2 for shift in (32, 16, 0))
    dense = x_NC.new_zeros(images, x_NC.shape[1], edge, edge, edge)
    dense[image_of(key), :, x, y, z] = x_NC
    return dense


def _rows(dense: Tensor, key: Tensor, coarser: int = 1) -> Tensor:
    x, y, z = ((key >> shift & 0xFFFF) - (2**15 - 4) // coarser for shift in (32, 16, 0))
    return dense[image_of(key), :, x, y, z]


def _random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.double).requires_grad_()


@pytest.mark.parametrize("size", [3, 5])
def test_the_sparse_convolution_is_the_dense_one_where_cells_are_with_its_gradients(size: int) -> None:
    key = _cells()
    x, weight, aim = _random(len(key), 4), _random(size**3, 4), _random(len(key), 4).detach()
    sparse = depthwise(x, weight, neighbours(key, size))
    kernel = weight.T.reshape(4, 1, size, size, size)
    dense = _rows(functional.conv3d(_dense(x, key), kernel, padding=size // 2, groups=4), key)
    torch.testing.assert_close(sparse, dense)
    found, expected = (torch.autograd.grad((y * aim).sum(), (x, weight)) for y in (sparse, dense))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_halving_is_a_dense_convolution_of_stride_two() -> None:
    key = _cells()
    halve, x = Halve(4, 6).double(), _random(len(key), 4)
    halve.norm = torch.nn.Identity()
    torch.nn.init.normal_(halve.mix.weight, generator=torch.Generator().manual_seed(3))
    coarse, merge = merged(key)
    kernel = halve.mix.weight.reshape(6, 2, 2, 2, 4).permute(0, 4, 1, 2, 3)
    dense = functional.conv3d(_dense(x, key), kernel, halve.mix.bias, stride=2)
    torch.testing.assert_close(halve(x, merge), _rows(dense, coarse, coarser=2))
    assert len(coarse) == int((functional.max_pool3d(_dense(torch.ones(len(key), 1), key), 2) > 0).sum())
    assert torch.equal(image_of(coarse).unique(), image_of(key).unique())


def test_sums_and_pooling_are_those_of_images_one_by_one_with_their_gradients() -> None:
    key, x = _cells(), _random(len(_cells()), 4)
    images = Groups.rising(image_of(key), 3)
    mine = [x[image_of(key) == b] for b in range(3)]
    torch.testing.assert_close(images.sum(x), torch.stack([one.sum(dim=0) for one in mine]))
    expected = torch.stack([one.mean(dim=0) + one.amax(dim=0) if len(one) else x.new_zeros(4) for one in mine])
    torch.testing.assert_close(pooled(x, images), expected)
    shuffled = torch.randperm(len(key), generator=torch.Generator().manual_seed(4))
    again = Groups.by(images.of[shuffled], 3)
    torch.testing.assert_close(again.sum(x[shuffled]), images.sum(x))
    assert images.sizes.tolist() == again.sizes.tolist() == [len(one) for one in mine]
    response = Response(4).double()
    response.scale.data += 0.5
    for function in (images.sum, again.sum, lambda x: pooled(x, images), lambda x: response(x, images)):
        assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradcheck(images.spread, _random(3, 4))
    torch.testing.assert_close(again.square_sum(x[shuffled]), images.sum(x.square()))
    assert torch.autograd.gradcheck(again.square_sum, x)


def test_the_normalised_response_is_the_published_formula() -> None:
    key = _cells()
    x, response = _random(len(key), 4), Response(4).double()
    response.scale.data += torch.tensor([0.1, 0.2, 0.3, 0.4])
    response.shift.data += 0.7
    found = response(x, Groups.rising(image_of(key), 3))
    for image in (0, 2):
        mine = x[image_of(key) == image]
        length = mine.norm(dim=0)
        expected = response.scale * (mine * length / (length.mean() + 1e-6)) + response.shift + mine
        torch.testing.assert_close(found[image_of(key) == image], expected)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_gives_a_vector_of_its_width_and_padding_changes_nothing(kind: str) -> None:
    encoder, (values, present) = _encoder(kind), _inputs(_images())
    expected = encoder(values, present)
    assert expected.shape == (5, encoder.width)
    filled = torch.where(present[:, :, None], values, torch.full_like(values, 99.0))
    longer = functional.pad(filled, (0, 0, 0, 6)), functional.pad(present, (0, 6))
    torch.testing.assert_close(encoder(*longer), expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_voxels_changes_nothing_and_their_charge_does(kind: str) -> None:
    encoder, (values, present) = _encoder(kind), _inputs(_images())
    expected, order = encoder(values, present), torch.randperm(values.shape[1], generator=torch.Generator())
    torch.testing.assert_close(encoder(values[:, order], present[:, order]), expected, rtol=1e-4, atol=1e-5)
    other = _images()
    other[:, :, 4] *= 1.2
    assert not torch.allclose(encoder(*_inputs(other)), expected, rtol=1e-2)


def test_an_image_does_not_see_the_others(kind: str) -> None:
    encoder, (values, present) = _encoder(kind), _inputs(_images())
    alone = encoder(values[2:3], present[2:3])
    torch.testing.assert_close(encoder(values, present)[2:3], alone, rtol=1e-4, atol=1e-5)


def test_empty_images_and_single_voxels_give_finite_vectors_and_gradients(kind: str) -> None:
    encoder, (values, present) = _encoder(kind), _inputs(_images())
    present[3] = False
    for rows in (slice(None), slice(3, 4), slice(1, 2)):  # all; the empty image alone; the one voxel alone
        assert encoder(values[rows], present[rows]).isfinite().all()
        assert all(gradient.isfinite().all() for gradient in _gradients(encoder, values[rows], present[rows]))
    assert encoder(values, present)[1:2].allclose(encoder(values[1:2], present[1:2]), rtol=1e-4, atol=1e-5)


def test_every_weight_gets_a_gradient_the_same_bits_each_time_and_when_recomputed(kind: str) -> None:
    inputs = _inputs(_images())
    encoder, thrifty = _encoder(kind), _encoder(kind, recompute=True)
    gradients = _gradients(encoder, *inputs)
    assert len(gradients) == len(list(encoder.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    for again in (_gradients(encoder, *inputs), _gradients(thrifty, *inputs)):
        assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


def test_the_generator_alone_settles_the_weights(kind: str) -> None:
    torch.manual_seed(1)
    first = _encoder(kind, 5).state_dict()
    torch.manual_seed(2)
    again, other = _encoder(kind, 5).state_dict(), _encoder(kind, 6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_half_precision_stays_near_single(kind: str) -> None:
    encoder, inputs = _encoder(kind), _inputs(_images())
    expected = encoder(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, gradients = encoder(*inputs), _gradients(encoder, *inputs)
    assert functional.cosine_similarity(found.float(), expected).min() > 0.99
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("kind", ["convnext", "patches"])
def test_asked_to_compile_they_stay_as_they_are(kind: str) -> None:
    encoder, inputs = _encoder(kind), _inputs(_images())
    expected = encoder(*inputs)
    encoder.compile(dynamic=True)
    assert torch.equal(encoder(*inputs), expected)


def test_convolutions_give_the_same_where_an_image_is_shifted_by_whole_cells_of_the_coarsest() -> None:
    encoder, images = _encoder("convnext"), _images()
    expected, here = encoder(*_inputs(images)), images[:, :, 3] > 0
    for cells, same in ((8, True), (-5, True), (0.5, False)):
        moved = images.copy()
        moved[:, :, :3] += here[:, :, None] * np.float32(cells * COARSEST)
        assert torch.allclose(encoder(*_inputs(moved)), expected, rtol=1e-4, atol=1e-5) == same


def test_voxels_in_one_cell_are_one_of_their_sum() -> None:
    images = _images()
    encoder = _encoder("convnext")
    assert isinstance(encoder, ConvNeXt)
    one = images[2:3]
    two = compacted(np.concatenate([one, one], axis=1))
    seen: list[Tensor] = []
    encoder.norm_embed.register_forward_hook(lambda _, x, __: seen.append(x[0]))
    for image in (one, two):
        encoder(*_inputs(image))
    torch.testing.assert_close(seen[1], 2 * seen[0])


def _weights(size: Size, cells: int, corners: int, stem: int) -> int:
    """Count the weights of ConvNeXt V2 (arXiv:2301.00808): stem, blocks, halvings and the last norm, without a head.

    A block of width C: a convolution of `cells` steps, a norm, C to 4 C, a normalised response of 4 C, and back.
    """
    widths, depths = STAGES[size]
    blocks = [(cells + 1) * c + 2 * c + (c + 1) * 4 * c + 2 * 4 * c + (4 * c + 1) * c for c in widths]
    halved = sum(2 * fine + (corners * fine + 1) * coarse for fine, coarse in pairwise(widths))
    last = 2 * widths[-1]
    return (stem + 1) * widths[0] + 2 * widths[0] + sum(np.multiply(blocks, depths)) + halved + last


@pytest.mark.parametrize("size", STAGES)
def test_sizes_have_the_layers_of_the_publication_in_three_dimensions(size: Size) -> None:
    """Kernels of 3 x 3 x 3, not 7 x 7; halving 2 x 2 x 2, not 2 x 2; charge and its logarithm as the stem's input."""
    encoder = make_encoder(EncoderConfig(kind="convnext", size=size), NORMALISATION, torch.Generator())
    assert sum(p.numel() for p in encoder.parameters()) == _weights(size, cells=27, corners=8, stem=2)


@pytest.mark.parametrize(("size", "millions"), [("base", 5.2), ("large", 28.6)])
def test_in_two_dimensions_sizes_would_have_the_published_weights(size: Size, millions: float) -> None:
    """Femto and Tiny (github.com/facebookresearch/ConvNeXt-V2): 3 colours in patches of 4 x 4, 1,000 classes."""
    head = 1000 * (STAGES[size].widths[-1] + 1)
    assert _weights(size, cells=49, corners=4, stem=3 * 16) + head == pytest.approx(millions * 1e6, rel=0.01)


def test_four_stages_give_finite_vectors_and_gradients_to_all_weights_also_beside_an_empty_image() -> None:
    encoder, (values, present) = _encoder("convnext", size="base"), _inputs(_images())
    present[3] = False
    gradients = _gradients(encoder, values, present)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    assert len(gradients) == len(list(encoder.parameters()))


def test_a_shape_for_convolutions_of_a_size_is_refused() -> None:
    with pytest.raises(ValidationError, match="kind convnext has the layers of its size; leave width, layers and"):
        EncoderConfig(kind="convnext", layers=2)

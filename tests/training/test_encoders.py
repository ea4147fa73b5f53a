"""What every encoder promises, whatever its kind."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from resim.errors import UserError
from training.config import SIZES, EncoderConfig
from training.data.jets import INPUTS
from training.encoders import Encoder, make_encoder
from training.encoders.encoder import load_layers
from training.lanes import JETS, Normalisation

SMALL: dict[str, Any] = {"width": 16, "heads": 2, "layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"kind": "plain", **SMALL},
    "part": {"kind": "part", **SMALL},
    "rs3l": {"kind": "rs3l", "outputs": 16},
}
NORMALISATION = Normalisation(
    JETS, np.linspace(-1, 1, len(INPUTS), dtype=np.float32), np.linspace(0.2, 1, len(INPUTS), dtype=np.float32)
)


def _encoder(kind: str, seed: int = 0, **changed: Any) -> Encoder:
    config = EncoderConfig.model_validate(KINDS[kind] | changed)
    return make_encoder(config, NORMALISATION, torch.Generator().manual_seed(seed)).eval()


def _jets(seed: int = 3, longest: int = 30) -> tuple[Tensor, Tensor]:
    """Make five jets, one of them with one constituent, one with more than the neighbours of an edge convolution."""
    values = torch.randn(5, longest, len(INPUTS), generator=torch.Generator().manual_seed(seed))
    present = torch.arange(longest) < torch.tensor([longest, 4, 1, 7, 2])[:, None]
    return values * present[:, :, None], present


def _gradients(encoder: Encoder, values: Tensor, present: Tensor) -> list[Tensor]:
    encoder.zero_grad()
    encoder(values, present).square().sum().backward()
    return [p.grad.clone() for p in encoder.parameters() if p.grad is not None]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_gives_a_vector_of_the_width_it_names(kind: str) -> None:
    assert _encoder(kind)(*_jets()).shape == (5, _encoder(kind).width) == (5, 16)


def test_padding_changes_nothing(kind: str) -> None:
    values, present = _jets()
    encoder = _encoder(kind)
    expected = encoder(values, present)
    filled = torch.where(present[:, :, None], values, torch.full_like(values, 99.0))
    longer = torch.nn.functional.pad(values, (0, 0, 0, 6)), torch.nn.functional.pad(present, (0, 6))
    torch.testing.assert_close(encoder(filled, present), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(encoder(*longer), expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_constituents_changes_nothing_and_their_content_does(kind: str) -> None:
    values, present = _jets()
    encoder, order = _encoder(kind), torch.randperm(30, generator=torch.Generator().manual_seed(0))
    expected = encoder(values, present)
    torch.testing.assert_close(encoder(values[:, order], present[:, order]), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(encoder(values * 1.1, present), expected, rtol=1e-2)


def test_a_jet_does_not_see_the_other_jets(kind: str) -> None:
    values, present = _jets()
    alone = _encoder(kind)(values[1:2, :4], present[1:2, :4])
    torch.testing.assert_close(_encoder(kind)(values, present)[1:2], alone, rtol=1e-4, atol=1e-5)


def test_empty_jets_and_single_constituents_give_finite_vectors_and_gradients(kind: str) -> None:
    values, present = _jets()
    present &= (torch.arange(5) != 3)[:, None]
    encoder = _encoder(kind)
    for rows in (slice(None), slice(3, 4), slice(2, 3)):  # all; the empty jet alone; the one constituent alone
        assert encoder(values[rows], present[rows]).isfinite().all()
        assert all(gradient.isfinite().all() for gradient in _gradients(encoder, values[rows], present[rows]))


def test_the_generator_alone_settles_the_weights(kind: str) -> None:
    torch.manual_seed(1)
    first = _encoder(kind, 5).state_dict()
    torch.manual_seed(2)
    again, other = _encoder(kind, 5).state_dict(), _encoder(kind, 6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_every_weight_gets_a_gradient(kind: str) -> None:
    encoder = _encoder(kind)
    gradients = _gradients(encoder, *_jets())
    assert len(gradients) == len(list(encoder.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_recomputing_activations_gives_the_same_gradients(kind: str) -> None:
    plain, thrifty = _encoder(kind), _encoder(kind, recompute=True)
    kept: list[int] = []
    for encoder in (plain, thrifty):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.nbytes) or x, lambda x: x):
            encoder(*_jets())
        kept.append(sum(sizes))
    assert kept[1] < 0.7 * kept[0]
    for a, b in zip(_gradients(plain, *_jets()), _gradients(thrifty, *_jets()), strict=True):
        assert torch.equal(a, b)


def test_half_precision_stays_near_single(kind: str) -> None:
    encoder = _encoder(kind)
    expected = encoder(*_jets())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder(*_jets())
        gradients = _gradients(encoder, *_jets())
    assert torch.nn.functional.cosine_similarity(found.float(), expected).min() > 0.99
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in gradients)


def test_compiles_as_one_graph_for_any_number_of_jets_and_constituents(kind: str) -> None:
    encoder = _encoder(kind)
    compiled = torch.compile(encoder, backend="eager", fullgraph=True, dynamic=True)
    for longest in (30, 26):  # with the compiler's own backend it needs a C++ compiler, which a bare machine lacks
        values, present = _jets(longest=longest)
        torch.testing.assert_close(compiled(values, present), encoder(values, present), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "millions"), [("tiny", 0.027), ("small", 0.14), ("base", 1.4), ("large", 7.5)])
def test_sizes_set_what_is_not_set_by_hand(name: str, millions: float) -> None:
    config = EncoderConfig.model_validate({"kind": "part", "size": name})
    assert config.shape == SIZES[name]
    assert EncoderConfig.model_validate({"size": name, "layers": 3}).shape == SIZES[name]._replace(layers=3)
    encoder = make_encoder(config, NORMALISATION, torch.Generator())
    assert sum(p.numel() for p in encoder.parameters()) == pytest.approx(1e6 * millions, rel=0.05)


def test_a_shape_for_the_network_of_fixed_layers_is_refused() -> None:
    with pytest.raises(ValidationError, match="kind rs3l has the layers of its publication; leave size, width, layers"):
        EncoderConfig(kind="rs3l", width=64)


def test_weights_of_another_architecture_are_refused_by_the_first_layer_that_differs() -> None:
    weights = _encoder("plain").state_dict()
    with pytest.raises(UserError, match=r"^x.pt: of another architecture: layer 'summary' is missing, expected \(16,"):
        load_layers(_encoder("part"), weights, "x.pt")
    with pytest.raises(UserError, match=r"layer 'blocks.1.norm_attention.weight' is \(16,\), expected missing"):
        load_layers(_encoder("plain", layers=1), weights, "x.pt")

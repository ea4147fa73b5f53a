import torch

from training.config import EncoderConfig
from training.data.jets import INPUTS
from training.encoders.transformer import Transformer


def _encoder(seed: int = 0) -> Transformer:
    config = EncoderConfig(width=16, heads=2, layers=2)
    return Transformer(len(INPUTS), config, torch.Generator().manual_seed(seed)).eval()


def _jets() -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.randn(5, 9, len(INPUTS), generator=torch.Generator().manual_seed(3))
    present = torch.arange(9) < torch.tensor([9, 4, 1, 7, 2])[:, None]
    return values * present[:, :, None], present


def test_padding_changes_nothing() -> None:
    values, present = _jets()
    filled = torch.where(present[:, :, None], values, torch.full_like(values, 99.0))
    longer = torch.nn.functional.pad(values, (0, 0, 0, 6)), torch.nn.functional.pad(present, (0, 6))
    expected = _encoder()(values, present)
    torch.testing.assert_close(_encoder()(filled, present), expected)
    torch.testing.assert_close(_encoder()(*longer), expected)


def test_the_order_of_constituents_changes_nothing() -> None:
    values, present = _jets()
    order = torch.tensor([8, 2, 0, 5, 7, 1, 3, 6, 4])
    torch.testing.assert_close(_encoder()(values[:, order], present[:, order]), _encoder()(values, present))


def test_a_jet_does_not_see_the_other_jets() -> None:
    values, present = _jets()
    torch.testing.assert_close(_encoder()(values, present)[1:2], _encoder()(values[1:2, :4], present[1:2, :4]))


def test_a_jet_without_constituents_gives_zeros_and_gradients_stay_finite() -> None:
    values, present = _jets()
    encoder = _encoder()
    out = encoder(values, present & (torch.arange(5) != 2)[:, None])
    assert out[2].tolist() == [0.0] * 16
    out.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_the_generator_alone_settles_the_weights() -> None:
    torch.manual_seed(1)
    first = _encoder(5).state_dict()
    torch.manual_seed(2)
    again, other = _encoder(5).state_dict(), _encoder(6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embed.0.weight"], other["embed.0.weight"])

"""The published network: edge convolution against its formula, checkpoints of the published layout, and wrong ones."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from resim.errors import UserError
from tests.training.conftest import toy_jets
from training.data.jets import PT
from training.encoders import load_rs3l
from training.encoders.rs3l import NEIGHBOURS, EdgeConvolution, nearest
from training.keys import generator

REFERENCE = Path(os.environ.get("RESIM_REFERENCE", Path(__file__).parents[3] / "shared/reference")) / "rs3l"
LAYERS = {
    "pf_encode.0": (128, 15),
    "pf_encode.2": (128, 128),
    "conv1.nn.0": (128, 256),
    "conv2.nn.0": (128, 256),
    "conv3.nn.0": (128, 256),
    "output.0": (64, 128),
    "output.2": (32, 64),
    "output.4": (32, 32),
}


def _weights(outputs: int) -> dict[str, Tensor]:
    """Draw weights of the published names and shapes, at the scale of layers at their start."""
    draws = torch.Generator().manual_seed(outputs)
    weights = OrderedDict()
    for name, (rows, columns) in (LAYERS | {"output.6": (outputs, 32)}).items():
        weights[f"{name}.weight"] = torch.randn(rows, columns, generator=draws) / columns**0.5
        weights[f"{name}.bias"] = torch.randn(rows, generator=draws)
    return weights


def _checkpoint(path: Path, weights: dict[str, Any]) -> Path:
    torch.save({"model": weights, "opt": {"state": {}}, "lr": {"step_size": 50, "gamma": 0.5}}, path)
    return path


def _jets(longest: int = 40) -> tuple[Tensor, Tensor]:
    jets = torch.from_numpy(toy_jets(8, generator("rs3l"), two_prongs=True, width=longest))
    return jets, jets[:, :, PT] > 0


def _edge_convolution(weight: Tensor, bias: Tensor, x_PD: Tensor) -> Tensor:
    """Convolve the constituents of one jet edge by edge, each with the 24 nearest, itself among them."""
    rows = []
    for x_i in x_PD:
        order = sorted(range(len(x_PD)), key=lambda j: (x_PD[j] - x_i).detach().norm().item())
        edges = [functional.elu(weight @ torch.cat([x_i, x_PD[j] - x_i]) + bias) for j in order[:24]]
        rows.append(torch.stack(edges).amax(dim=0))
    return torch.stack(rows)


def _forward(weights: dict[str, Tensor], x_PI: Tensor) -> Tensor:
    """Run one jet's constituents through the published network, written out from its weights."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    x = functional.elu(linear("pf_encode.2", functional.elu(linear("pf_encode.0", x_PI))))
    for name in ("conv1.nn.0", "conv2.nn.0", "conv3.nn.0"):
        x = _edge_convolution(weights[f"{name}.weight"], weights[f"{name}.bias"], x)
    x = x.sum(dim=0)
    for name in ("output.0", "output.2", "output.4"):
        x = functional.elu(linear(name, x))
    return linear("output.6", x)


def test_edge_convolution_agrees_with_its_formula_in_values_and_gradients() -> None:
    draws = torch.Generator().manual_seed(0)
    layer = EdgeConvolution(6).double()
    x = torch.randn(4, 30, 6, generator=draws, dtype=torch.float64)
    counts, probe = [30, 24, 5, 1], torch.randn(4, 30, 6, generator=draws, dtype=torch.float64)
    present = torch.arange(30) < torch.tensor(counts)[:, None]
    results = []
    for direct in (False, True):
        layer.zero_grad()
        leaf = x.clone().requires_grad_()
        if direct:
            jets = [jet[:n] for jet, n in zip(leaf, counts, strict=True)]
            found = torch.cat([_edge_convolution(*layer.parameters(), jet) for jet in jets])
        else:
            found = layer(leaf, present)[present]
        (found * probe[present]).sum().backward()
        results.append([found.detach(), leaf.grad[present], *(p.grad.clone() for p in layer.parameters())])
    torch.testing.assert_close(*results)


def test_fewer_than_24_constituents_are_all_neighbours_of_each_other() -> None:
    x = torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(0))
    present = torch.arange(30) < torch.tensor([[20], [30]])
    found = nearest(x, present)
    assert found.shape == (2, 30, NEIGHBOURS)
    assert all(set(row.tolist()) == set(range(20)) for row in found[0, :20])
    assert all(len(set(row.tolist())) == 24 and i in row for i, row in enumerate(found[1]))


@pytest.mark.parametrize("outputs", [8, 128, 512])
def test_a_checkpoint_of_the_published_layout_loads_and_runs(tmp_path: Path, outputs: int) -> None:
    weights = _weights(outputs)
    network = load_rs3l(_checkpoint(tmp_path / "best-epoch.pt", weights))
    assert not network.training
    jets, present = _jets()
    found = network(jets, present)
    assert found.shape == (8, outputs) == (8, network.width)
    double = {name: weight.double() for name, weight in weights.items()}
    expected = torch.stack([_forward(double, jet[here].double()) for jet, here in zip(jets, present, strict=True)])
    assert present.sum(dim=1).min() < 24 < present.sum(dim=1).max()
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


def test_what_is_embedded_can_be_differentiated_and_has_no_length_of_one(tmp_path: Path) -> None:
    network = load_rs3l(str(_checkpoint(tmp_path / "best-epoch.pt", _weights(8))))
    out = network(*_jets())
    assert not torch.allclose(out.norm(dim=1), torch.ones(8), rtol=0.1)
    out.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def _with(**changed: Any) -> dict[str, Any]:
    return {name: weight for name, weight in (_weights(8) | changed).items() if weight is not None}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (_with(**{"conv2.nn.0.weight": None}), r"layer 'conv2.nn.0.weight' is missing, expected \(128, 256\)$"),
        (_with(**{"conv4.nn.0.weight": torch.ones(2)}), r"layer 'conv4.nn.0.weight' is \(2,\), expected missing$"),
        (_with(**{"output.2.bias": torch.ones(31)}), r"layer 'output.2.bias' is \(31,\), expected \(32,\)$"),
        (_with(**{"output.6.weight": torch.ones(8, 16)}), r"'output.6.weight' is \(8, 16\), expected \(8, 32\)$"),
        (_with(**{"pf_encode.0.bias": 3}), r"layer 'pf_encode.0.bias' is no tensor, expected \(128,\)$"),
        ({}, r"layer 'pf_encode.0.weight' is missing, expected \(128, 15\)$"),
        (None, r"holds no 'model' with weights; expected an RS3L checkpoint \(model, opt, lr\)$"),
    ],
    ids=["missing", "unknown", "shape", "inconsistent", "no tensor", "empty", "no model"],
)
def test_another_checkpoint_is_refused_in_one_line(tmp_path: Path, weights: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"^\S+best.pt: [^\n]*{message}"):
        load_rs3l(_checkpoint(tmp_path / "best.pt", weights))


def test_what_is_no_file_of_weights_is_refused_and_its_code_is_not_run(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "pickle.pt")  # a pickled module, which needs code to be run
    (tmp_path / "cut.pt").write_bytes(_checkpoint(tmp_path / "whole.pt", _weights(8)).read_bytes()[:1000])
    np.save(tmp_path / "array.npy", np.ones(3))
    for name in ("pickle.pt", "cut.pt", "array.npy"):
        with pytest.raises(UserError, match=rf"^\S+{name}: not a file of weights \(\w+\); expected an RS3L checkpoint"):
            load_rs3l(tmp_path / name)
    with pytest.raises(UserError, match=r"^\S+none.pt: No such file or directory; expected a published RS3L"):
        load_rs3l(tmp_path / "none.pt")
    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    with pytest.raises(UserError, match="holds no 'model' with weights"):
        load_rs3l(tmp_path / "tensor.pt")


def test_the_published_checkpoint_gives_what_its_weights_say() -> None:
    path = REFERENCE / "best-epoch.pt"
    if not path.is_file():
        pytest.skip(f"no published checkpoint in {REFERENCE}; set RESIM_REFERENCE to the folder that has rs3l/")
    network = load_rs3l(path)
    jets, present = _jets()
    weights = {name: weight.double() for name, weight in network.state_dict().items()}
    found = network(jets, present).double()
    expected = torch.stack([_forward(weights, jet[here].double()) for jet, here in zip(jets, present, strict=True)])
    assert found.shape == (8, 8)
    assert functional.cosine_similarity(found, expected).min() > 1 - 1e-9
    torch.testing.assert_close(found.norm(dim=1), expected.norm(dim=1), rtol=1e-4, atol=0)

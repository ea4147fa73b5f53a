"""The networks on a GPU: forward, backward and step on real jets, and RS3L against torch_geometric's edge convolution.

torch_geometric is no dependency. Where it is installed, the published network is also built from its DynamicEdgeConv.
The search for neighbours of that is in a compiled package of its own (pyg-lib, once torch_cluster). Without it the twin
is built from EdgeConv, with edges from `training.encoders.rs3l.nearest`.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from resim.store import Place
from training.config import EncoderConfig, TrainingConfig
from training.data.loader import Jets
from training.encoders import make_encoder
from training.encoders.rs3l import NEIGHBOURS, RS3L, nearest
from training.keys import torch_generator
from training.meter import Meter
from training.pretrain import contrastive_loader, open_store

_BATCH, _CONSTITUENTS = 512, 64
_NETWORKS: dict[str, dict[str, Any]] = {
    "plain small": {"kind": "plain"},
    "plain base": {"kind": "plain", "size": "base"},
    "part small": {"kind": "part"},
    "part base": {"kind": "part", "size": "base"},
    "rs3l": {"kind": "rs3l"},
}
_STEPS, _REPEATS = 20, 3


def on_gpu(folders: Mapping[str, Place], settings: TrainingConfig) -> dict[str, Any] | str:
    """Measure jets a second and peak memory of a step of each network, in single and mixed precision.

    Returns
    -------
    dict
        `device`, `batch`, `constituents` (kept at most), and for each network and precision [jets a second, MiB].
        `torch_geometric`: the same of RS3L written with it, and how; or that it is not installed. A line without a GPU.
    """
    if not torch.cuda.is_available():
        return "no GPU"
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products, as in training
    jets, make = _made(folders, settings)
    jets = jets.changed(lambda x: x.to("cuda"))
    found: dict[str, Any] = {
        name: _both(make(EncoderConfig.model_validate({**shape, "constituents": _CONSTITUENTS})).to("cuda"), jets)
        for name, shape in _NETWORKS.items()
    }
    rs3l = make(EncoderConfig(kind="rs3l", constituents=_CONSTITUENTS)).to("cuda")
    assert isinstance(rs3l, RS3L)
    return {
        "device": torch.cuda.get_device_name(),
        "batch": _BATCH,
        "constituents": _CONSTITUENTS,
        **found,
        "torch_geometric": _both_of_twin(rs3l, jets) if find_spec("torch_geometric") else "not installed",
    }


def _made(folders: Mapping[str, Place], settings: TrainingConfig) -> tuple[Jets, Callable[[EncoderConfig], nn.Module]]:
    """Give a batch of nominal jets and what makes networks for them."""
    update = {
        "encoder": settings.encoder.model_copy(update={"constituents": _CONSTITUENTS}),
        "pretrain": settings.pretrain.model_copy(update={"batch": _BATCH}),
    }
    wide = settings.model_copy(update=update)
    loader = contrastive_loader(open_store(folders, wide), wide, "resim", 0, Meter())
    batch = next(loader.batches(range(1)))
    return batch.views[0], lambda shape: make_encoder(shape, loader.normalisation, torch_generator("bench", "gpu"))


def _both(network: nn.Module, jets: Jets) -> dict[str, list[float]]:
    return {precision: _speed(network, jets, precision) for precision in ("float32", "bfloat16")}


def _both_of_twin(network: RS3L, jets: Jets) -> dict[str, Any]:
    """Measure the twin as its users run it: its sums over edges are in any order."""
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        other = Twin(network)
        with torch.no_grad():
            expected = network(jets.values, jets.present)
            difference = (other(jets.values, jets.present) - expected).abs().max() / expected.abs().max()
        return {"edges": other.edges, "difference": difference.item(), **_both(other, jets)}
    finally:
        torch.set_deterministic_debug_mode(mode)


def _speed(network: nn.Module, jets: Jets, precision: str) -> list[float]:
    """Give the median jets a second of forward, backward and step, and the peak memory in MiB."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = network(jets.values, jets.present).float().square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    step()  # what is set up once
    torch.cuda.reset_peak_memory_stats()
    speeds = []
    for _ in range(_REPEATS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(_STEPS):
            step()
        torch.cuda.synchronize()
        speeds.append(_STEPS * len(jets.values) / (time.perf_counter() - started))
    return [round(statistics.median(speeds)), round(torch.cuda.max_memory_allocated() / 2**20)]


class Twin(nn.Module):
    """RS3L with torch_geometric's edge convolutions, on the same weights: ragged points in place of padded ones."""

    def __init__(self, network: RS3L) -> None:
        super().__init__()
        geometric = import_module("torch_geometric.nn")
        self.network = network
        layers = [convolution.nn for convolution in (network.conv1, network.conv2, network.conv3)]
        kept = {name: value.clone() for name, value in network.state_dict().items()}
        try:
            convolutions = [geometric.DynamicEdgeConv(layer, k=NEIGHBOURS) for layer in layers]
            self.edges = "DynamicEdgeConv"
        except ImportError:  # it has the search for neighbours from a package that is not there
            convolutions = [geometric.EdgeConv(layer) for layer in layers]
            self.edges = "EdgeConv, neighbours by training.encoders.rs3l"
        network.load_state_dict(kept)  # they draw the weights anew
        self.convolutions = convolutions  # no modules of their own: their layers are the network's

    def forward(self, values_BPI: Tensor, present_BP: Tensor) -> Tensor:
        """Give what the network gives, (B, outputs)."""
        jet = present_BP.nonzero()[:, 0]  # (n,) of each point
        x_nD = self.network.pf_encode(values_BPI[present_BP])
        for convolution in self.convolutions:
            x_nD = convolution(x_nD, self._edges(x_nD, present_BP) if self.edges != "DynamicEdgeConv" else jet)
        total = x_nD.new_zeros(len(present_BP), x_nD.shape[1]).index_add(0, jet, x_nD)
        return self.network.output(total)

    def _edges(self, x_nD: Tensor, present_BP: Tensor) -> Tensor:
        """Give the edges (2, m) from neighbours to points."""
        x_BPD = x_nD.new_zeros(*present_BP.shape, x_nD.shape[1])
        x_BPD[present_BP] = x_nD.detach()
        neighbours_BPN = nearest(x_BPD, present_BP)
        number_BP = present_BP.flatten().cumsum(0).view_as(present_BP) - 1  # of each point among all
        jets = torch.arange(len(present_BP), device=x_nD.device)[:, None, None]
        to_nN = number_BP[:, :, None].expand_as(neighbours_BPN)[present_BP]
        of_nN = number_BP[jets, neighbours_BPN][present_BP]
        return torch.stack([of_nN.flatten(), to_nN.flatten()])

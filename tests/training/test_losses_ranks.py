"""Two processes with half of a batch each get the loss and the gradients of one process with all of it."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from training.config import OptimiserConfig, PretrainConfig
from training.data.fetch import Store
from training.fit import History, Run
from training.learner import Learner
from training.losses import objective
from training.meter import Clock, Meter, peak_mb
from training.pretrain import cost_of

Toy = Callable[[int, int], dict[str, Path]]

CASES: list[dict[str, Any]] = [
    {"loss": "ntxent"},
    {"loss": "supcon_in", "alpha": 0.5},
    {"loss": "supcon_out", "alpha": 1},
    {"loss": "vicreg"},
]
HALVES = {"equal": (6, 6), "unequal": (7, 5)}


def _network() -> nn.Module:
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.normal_(generator=draws)
    return network


def _batch() -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(12, 4, generator=draws)
    return x, x + 0.3 * torch.randn(12, 4, generator=draws), torch.arange(12) % 3


def _step(network: nn.Module, case: dict[str, Any], rows: slice) -> tuple[Tensor, list[Tensor]]:
    """Give the loss of some rows and the gradients of all weights."""
    network.zero_grad()
    first, second, labels = (x[rows] for x in _batch())
    loss = objective(PretrainConfig.model_validate(case), network(first), network(second), labels)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in network.parameters()]


def _rank(rank: int, folder: str) -> None:
    """Do the steps of one of two ranks and leave what came out."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    network = DistributedDataParallel(_network())
    found = {}
    for name, (first, _) in HALVES.items():
        rows = slice(first) if rank == 0 else slice(first, None)
        found[name] = [_step(network, case, rows) for case in CASES]
    run = Run(clock=Clock(cpu_started=Clock().cpu_started - 10 * (rank + 1)))
    run.meter.add(Meter({"read": 1.0 + rank, "augment": 2.0}, {"read": 3, "augment": 4 + rank}))
    run.clock.add(cpu_s=0, wall_s=100 * (rank + 1))
    cost = cost_of(run, History(steps=5))
    torch.save(found | {"cost": cost, "peak_mb": peak_mb()}, f"{folder}/rank{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def of_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run both ranks once: {how the batch is cut: [(loss, gradients) of each case]} of each rank."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("halves", HALVES)
@pytest.mark.parametrize("case", range(len(CASES)), ids=[case["loss"] for case in CASES])
def test_two_ranks_learn_what_one_process_does(of_ranks: list[dict[str, Any]], case: int, halves: str) -> None:
    expected = _step(_network(), CASES[case], slice(None))
    assert any(gradient.abs().max() > 1e-3 for gradient in expected[1])
    for rank in of_ranks:
        torch.testing.assert_close(rank[halves][case], expected, rtol=1e-5, atol=1e-6)


def test_half_of_the_batch_alone_would_not_do() -> None:
    """What the gathering is for: averaged gradients of two halves, each with its own negatives, are others."""
    whole = _step(_network(), CASES[0], slice(None))[1]
    halves = [_step(_network(), CASES[0], rows)[1] for rows in (slice(6), slice(6, None))]
    assert not torch.allclose((halves[0][0] + halves[1][0]) / 2, whole[0], rtol=0.01)


def test_the_price_is_of_all_ranks_with_the_wall_time_of_the_first(of_ranks: list[dict[str, Any]]) -> None:
    cost = of_ranks[0]["cost"]
    assert cost["cpu_s"] == pytest.approx(10 + 20, abs=5)
    assert (cost["read_cpu_s"], cost["augment_cpu_s"], cost["augmented_jets"], cost["steps"]) == (3.0, 4.0, 9.0, 5.0)
    assert cost["wall_s"] == pytest.approx(100, abs=30)
    assert cost["peak_mb"] == pytest.approx(max(one["peak_mb"] for one in of_ranks), rel=0.05)


@pytest.mark.parametrize(("rank", "counted"), [("0", 30.0), ("1", 0.0)])
def test_what_all_ranks_took_before_a_kill_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, rank: str, counted: float
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("RANK", rank)
    run = Run.begin(None, {})
    learner = Learner(_network(), torch.sum, OptimiserConfig(), float, "", run, Store(toy(80, 40), 12, 8).index)
    metered = {"cpu_s": {"read": 30.0}, "objects": {"read": 4}}
    before = {"history": asdict(History()), "clock": {"cpu_s": 30.0, "wall_s": 20.0}, "meter": metered}
    learner.on_load_checkpoint({"state_dict": learner.state_dict(), **before})
    assert run.clock.cpu_s() == pytest.approx(counted, abs=5)
    assert run.meter.cpu_s.get("read", 0.0) == counted

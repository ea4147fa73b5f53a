"""Run the engines as the workflow does: each in a process of its own."""

import hashlib
import os
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyhepmc
import pythia8mc as pythia8

from resim.jets.pythia import make

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / "workflow" / "engines"
STATUS = {-21: -1, -22: 2, 23: 1}  # Pythia's codes -> those of Les Houches files


def run(python: str, engine: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run an engine's program; its folder is where the card lies, not where we are."""
    program = ENGINES / engine / "generate.py"
    return subprocess.run([python, program, *arguments], capture_output=True, text=True, timeout=280)


def console(package: str) -> list[str]:
    """Give the command that a console script stands for, of the code that is tested."""
    return [sys.executable, "-c", f"from {package}.cli import main; main()"]


def snakemake(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow in a folder."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, package in (("resim", "resim"), ("resim-train", "training")):
        command = folder / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {shlex.join(console(package))} "$@"\n')
        command.chmod(0o755)
    programs = Path(sys.executable).parent
    fixed = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), "--scheduler", "greedy"]
    values = {**os.environ, "PATH": f"{folder / 'bin'}:{programs}:{os.environ['PATH']}", **environment}
    line = [str(programs / "snakemake"), *words, *fixed]
    return subprocess.run(line, capture_output=True, text=True, timeout=580, check=False, env=values)


def read(path: Path) -> list[Any]:
    """Read all events."""
    with pyhepmc.open(path) as file:
        return list(file)


def digest(path: Path) -> str:
    """Tell files apart."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def final_sum(event: Any) -> np.ndarray[Any, Any]:
    """Add up the momenta of the final particles: (px, py, pz, e) in GeV."""
    rows = event.numpy.particles
    final = rows.status == 1
    return np.array([getattr(rows, name)[final].sum() for name in ("px", "py", "pz", "e")])


def final_charge(event: Any) -> float:
    """Add up the charges of the final particles, by Pythia's table."""
    table = make([]).particleData
    return sum(table.charge(int(pid)) for pid in event.numpy.particles.pid[event.numpy.particles.status == 1])


def is_hadron_of(pid: int, quark: int) -> bool:
    """Tell hadrons that contain a quark by the digits of their PDG id."""
    digits = f"{abs(pid) % 10000:04d}"
    return abs(pid) > 100 and str(quark) in (digits[0], digits[1])


def statuses(event: Any) -> Counter[int]:
    """Count the status codes."""
    return Counter(event.numpy.particles.status.tolist())


def write_les_houches(path: Path, n: int, comments: bool = False) -> None:
    """Write dijets at 13 TeV as Pythia makes them, with its scale and couplings."""
    pythia = make(
        {"HardQCD:all": True, "Beams:eCM": 13000.0, "PhaseSpace:pTHatMin": 400.0, "PartonLevel:all": False}.items()
    )
    assert pythia.init()
    with path.open("w") as file:
        file.write(
            '<LesHouchesEvents version="1.0">\n<init>\n2212 2212 6500. 6500. 0 0 0 0 3 1\n1. 0.1 1. 9999\n</init>\n'
        )
        for number in range(n):
            assert pythia.next()
            file.write(_event(pythia, f"#event {100 - number}\n" if comments else ""))
        file.write("</LesHouchesEvents>\n")


def _event(pythia: pythia8.Pythia, comment: str) -> str:
    info, rows = pythia.infoPython(), list(pythia.process)[3:]
    lines = [f"{len(rows)} 9999 1. {info.QFac():.10e} {info.alphaEM():.10e} {info.alphaS():.10e}\n"]
    for row in rows:
        mothers = [max(0, mother - 2) for mother in (row.mother1(), row.mother2())]
        integers = [row.id(), STATUS[row.status()], *mothers, row.col(), row.acol()]
        momentum = [row.px(), row.py(), row.pz(), row.e(), row.m()]
        lines.append(" ".join([*map(str, integers), *(f"{p:.10e}" for p in momentum), "0. 9.\n"]))
    return "".join(["<event>\n", *lines, comment, "</event>\n"])

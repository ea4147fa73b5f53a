import ast
from pathlib import Path

TRAINING = Path(__file__).parents[2] / "training"
ALLOWED = {"resim.cost", "resim.ending", "resim.errors", "resim.grid", "resim.keys", "resim.store", "resim.typed"}


def test_training_takes_of_the_simulation_the_store_and_what_knows_no_physics_alone() -> None:
    modules = set()
    for path in TRAINING.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                modules.add(node.module or "")
            elif isinstance(node, ast.Import):
                modules |= {name.name for name in node.names}
    simulators = {"pythia8mc", "fastjet", "awkward", "uproot"}
    assert {m for m in modules if m.split(".")[0] in simulators} == set()
    assert {m for m in modules if m.split(".")[0] == "resim"} == ALLOWED

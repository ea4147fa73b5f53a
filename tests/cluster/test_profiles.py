"""The profile of HTCondor, which no Debian package brings: a dry run through its plugin, which stands apart."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cluster.test_slurm import BOTH, write_config
from tests.conftest import ROOT
from tests.e2e.runs import command, environment

PLUGIN = os.environ.get("RESIM_HTCONDOR", "")


@pytest.mark.skipif(not PLUGIN, reason="NO HTCONDOR HERE, so its profile is not tried: make test-cluster installs it")
def test_the_profile_of_htcondor_lists_the_jobs_with_their_resources(tmp_path: Path) -> None:
    write_config(tmp_path, BOTH)
    words = command(tmp_path, "views", "--dry-run", "--profile", str(ROOT / "workflow/profiles/htcondor"))
    path = os.pathsep.join(filter(None, [PLUGIN, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, check=False, env={**environment(), "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    for sample in BOTH:
        for events in ("0:20", "20:40"):
            assert f"Simulating {sample}, events {events}, in all views (1 thread, 1202 MB, 30 min)" in done.stdout
        assert f"Listing the parts of {sample} (1 thread, 1000 MB, 30 min)" in done.stdout
    assert "getenv=True" in done.stdout  # what the profile adds

"""A Slurm of one node for tests: real daemons, as root, without systemd, cgroups or a database of accounts.

It counts jobs over their memory as failed and kills them within a second, as a cluster does.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = "munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo"
PACKAGES = "slurmctld slurmd slurm-client munge"
_LINK = Path("/etc/slurm/slurm.conf")  # where the executor's inner srun looks, whatever SLURM_CONF says
_CONF = """\
ClusterName=resim
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
DefMemPerCPU=500
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
ReturnToService=2
MinJobAge=600
KillWait=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Say what is missing to start one here; nothing if it can be."""
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    if programs:
        return f"{', '.join(programs)} not found: apt-get install {PACKAGES}"
    if os.geteuid() != 0:
        return "daemons are started as root, and this is not root"
    return f"{_LINK} is there: this machine has a Slurm of its own" if _LINK.exists() else ""


class Slurm:
    """A running one; commands of Slurm find it by themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start_controller(self) -> None:
        """Start slurmctld, or start it again after it was killed."""
        subprocess.run(["slurmctld"], check=True, timeout=60)

    def kill_controller(self) -> None:
        """Kill -9."""
        os.kill(_pid(self.folder / "slurmctld.pid"), 9)

    def squeue(self, form: str) -> list[list[str]]:
        """List jobs that wait or run, words of a format of squeue's each."""
        command = ["squeue", "--noheader", "--format", form]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        return [line.split() for line in done.stdout.splitlines()]

    def ended(self) -> list[dict[str, str]]:
        """Tell of all jobs that are over, as Slurm wrote it down."""
        path = self.folder / "jobs.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def wait(self) -> None:
        """Wait until the node takes jobs."""
        for _ in range(150):
            done = subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True, timeout=60, check=False)
            if done.stdout.strip() == "idle":
                return
            time.sleep(0.2)
        raise RuntimeError(f"the node does not come up: {done.stdout}{done.stderr}{self._logs()}")

    def _logs(self) -> str:
        return "".join(log.read_text()[-2000:] for log in sorted(self.folder.glob("slurm*.log")))


@contextlib.contextmanager
def slurm_of_one_node(folder: Path) -> Iterator[Slurm]:
    """Start munged, slurmctld and slurmd with all their files in a folder; end them."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    controller, node = _free_ports(2)
    # More than the machine has, so that jobs overlap even where there is one core.
    cpus = max(2, os.cpu_count() or 1)
    told = _CONF.format(folder=folder, host=host, memory=memory, controller=controller, node=node, cpus=cpus)
    (folder / "slurm.conf").write_text(told)
    slurm = Slurm(folder)
    _LINK.parent.mkdir(exist_ok=True)
    _LINK.symlink_to(folder / "slurm.conf")
    try:
        _start_munge(folder / "munge")
        slurm.start_controller()
        subprocess.run(["slurmd", "-N", host], check=True, timeout=60)
        slurm.wait()
        yield slurm
    finally:
        for pid in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            _end(folder / pid)
        _LINK.unlink()


def _start_munge(folder: Path) -> None:
    folder.chmod(0o755)  # munged refuses any other
    key = folder / "key"
    key.touch(0o400)
    key.write_bytes(secrets.token_bytes(128))
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={folder / file}" for option, file in files.items()]
    subprocess.run(["munged", "--force", *options], check=True, timeout=60)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _pid(path: Path) -> int:
    return int(path.read_text())


def _end(path: Path) -> None:
    """End a daemon by its pid file, and wait until it is gone."""
    with contextlib.suppress(OSError, ValueError):
        pid = _pid(path)
        os.kill(pid, 15)
        for _ in range(50):
            time.sleep(0.1)
            os.kill(pid, 0)
        os.kill(pid, 9)

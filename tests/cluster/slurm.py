"""A Slurm of one node for tests: real daemons, as root, without systemd, cgroups or a database of accounts.

It kills jobs over their memory within a second and those over their time within half a minute, as a cluster does.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROGRAMS = "munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo"
PACKAGES = "slurmctld slurmd slurm-client munge"
_ETC = Path("/etc/slurm")  # where the executor's inner srun looks, whatever SLURM_CONF says
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
MessageTimeout=5
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# None are used, but slurmd wants a plugin for them; this one starts where none are mounted, too, as in a container.
_CGROUP = "CgroupPlugin=cgroup/v1\n"
_FILES = {"slurm.conf": _CONF, "cgroup.conf": _CGROUP}


def missing() -> str:
    """Say what is missing to start one here; nothing if it can be."""
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    if programs:
        return f"{', '.join(programs)} not found: apt-get install {PACKAGES}"
    if os.geteuid() != 0:
        return "daemons are started as root, and this is not root"
    there = [str(_ETC / name) for name in _FILES if (_ETC / name).exists()]
    here = f"{', '.join(there)}: this machine has a Slurm of its own, or a test that was killed left it"
    return here if there else ""


class Slurm:
    """A running one; commands of Slurm find it by themselves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._forgotten = 0

    def forget(self) -> None:
        """Tell no more of the jobs that are over by now."""
        self._forgotten += len(self.ended())

    def start_controller(self) -> None:
        """Start slurmctld, or start it again after it was killed."""
        _start("slurmctld")

    def kill_controller(self) -> None:
        """Kill -9."""
        os.kill(_pid(self.folder / "slurmctld.pid"), signal.SIGKILL)

    def running(self) -> list[str]:
        """List the numbers of the jobs that run."""
        return told("squeue", "--noheader", "--states", "RUNNING", "--format", "%i").split()

    def ended(self) -> list[dict[str, str]]:
        """Tell of the jobs that are over, as Slurm wrote it down: JobId, JobState, Tres and more."""
        path = self.folder / "jobs.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines[self._forgotten :]]

    def wait_until_free(self) -> None:
        """Wait until no job waits or runs."""
        until(lambda: not told("squeue", "--noheader"), "jobs end")

    def killed_for_memory(self) -> set[str]:
        """List the numbers of the jobs that Slurm killed because they were over their memory."""
        return set(re.findall(r"StepId=(\d+)\.\w+ exceeded memory limit", (self.folder / "slurmd.log").read_text()))

    def wait_for_node(self) -> None:
        """Wait until the node takes jobs."""
        try:
            until(lambda: told("sinfo", "--noheader", "--format", "%t").strip() == "idle", "the node comes up", 30)
        except AssertionError as error:
            raise RuntimeError(self.logs()) from error

    def logs(self) -> str:
        """Give the ends of the daemons' logs."""
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
    values = {"folder": folder, "host": host, "memory": memory, "controller": controller, "node": node, "cpus": cpus}
    slurm = Slurm(folder)
    _ETC.mkdir(exist_ok=True)
    for name, text in _FILES.items():
        (folder / name).write_text(text.format(**values))
        (_ETC / name).unlink(missing_ok=True)  # of a killed test, whose folder is gone; `missing` has refused others
        (_ETC / name).symlink_to(folder / name)
    try:
        _start_munge(folder / "munge")
        slurm.start_controller()
        _start("slurmd", "-N", host)
        slurm.wait_for_node()
        yield slurm
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{error}\n{slurm.logs()}") from error
    finally:
        for pid in ("slurmd.pid", "slurmctld.pid", "munge/pid"):
            _end(folder / pid)
        for name in _FILES:
            (_ETC / name).unlink()


def _start_munge(folder: Path) -> None:
    folder.chmod(0o755)  # munged refuses any other
    key = folder / "key"
    key.touch(0o400)
    key.write_bytes(secrets.token_bytes(128))
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    options = [f"--{option}={folder / file}" for option, file in files.items()]
    _start("munged", "--force", *options)


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def told(*words: str) -> str:
    """Run a command that must succeed, and give what it prints."""
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout


def until(there: Callable[[], bool], what: str, seconds: float = 120) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, f"waited {seconds} s in vain until {what}"
        time.sleep(0.1)


def _start(*words: str) -> None:
    """Start a daemon, which keeps what it is given to print to."""
    subprocess.run(words, check=True, timeout=60)


def _pid(path: Path) -> int:
    return int(path.read_text())


def _end(path: Path) -> None:
    """End a daemon by its pid file, and wait until it is gone."""
    with contextlib.suppress(OSError, ValueError):
        pid = _pid(path)
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            if not _alive(pid):
                return
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)


def _alive(pid: int) -> bool:
    """Tell whether a process is there; one that is over and that nobody has asked about is not."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"

"""SLURM with this machine as its one node, on loopback: the programs of Debian's `slurm-wlm`."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import create_server

_PATIENCE = 30  # seconds
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo", "scancel")
_CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def is_here() -> bool:
    """Whether all its programs are installed, and we may run them: as root."""
    return os.geteuid() == 0 and all(map(shutil.which, _PROGRAMS))


@contextmanager
def running(folder: Path) -> Iterator[Path]:
    """Run it while the context is entered; yield its configuration, for ``SLURM_CONF``."""
    folder.chmod(0o755)
    for name in ("spool", "state"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    listeners = [create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in listeners]
    for each in listeners:
        each.close()
    host, cpus = platform.node().partition(".")[0], os.cpu_count()
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(host=host, folder=folder, ports=ports, cpus=cpus))
    munged = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munged += [f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"]
    munged += [f"--seed-file={folder}/munged.seed", f"--log-file={folder}/munged.log"]
    with ExitStack() as stack:
        stack.enter_context(_process(munged, folder, "munged"))
        _wait_for(lambda: (folder / "munge.socket").exists(), folder)
        stack.enter_context(_process(["slurmctld", "-D", "-f", str(conf)], folder, "slurmctld"))
        stack.enter_context(_process(["slurmd", "-D", "-f", str(conf)], folder, "slurmd"))
        _wait_for(lambda: "idle" in _said(conf, "sinfo", "-h", "-o", "%t"), folder)
        yield conf
        _said(conf, "scancel", "--user=root")
        _wait_for(lambda: not _said(conf, "squeue", "-h"), folder)


def _said(conf: Path, *command: str) -> str:
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


@contextmanager
def _process(command: list[str], folder: Path, name: str) -> Iterator[None]:
    with (folder / f"{name}.out").open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_for(condition: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > end:
            said = "\n".join(p.read_text()[-1500:] for p in folder.glob("*.out"))
            raise RuntimeError(f"SLURM did not start:\n{said}")
        time.sleep(0.1)

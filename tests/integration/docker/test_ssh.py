"""mpirun from the launcher to a worker pod through the images' own ssh configuration, for real.

In namespaces of its own: the images' user without privileges, the MPI operator's key Secret as a
volume shows it (owned by root, readable by all), and two host names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WORKER = "isthmus-llm-0-worker-0.isthmus-llm-0.rag.svc"

INSIDE = """
set -euo pipefail
mount -t tmpfs none /home
mkdir -p /home/isthmus/.ssh /run/sshd
chown 10001:10001 /home/isthmus
cp {work}/keys/* /home/isthmus/.ssh/
chmod 644 /home/isthmus/.ssh/*
for file in passwd group hosts; do mount --bind {work}/$file /etc/$file; done
mount --bind {work}/ssh_config.d /etc/ssh/ssh_config.d
ip link set lo up
ip link add eth0 type veth peer name peer0  # mpirun's daemons do not meet on the loopback
ip address add 10.9.0.1/24 dev eth0
ip link set eth0 up
ip link set peer0 up

# Reading is not what is tested: this Python may lie in a directory of root's.
caps=-all,+dac_read_search
isthmus="setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs
  --inh-caps=$caps --ambient-caps=$caps --bounding-set=$caps
  env -i PATH=/usr/bin:/bin HOME=/home/isthmus"
unshare --uts bash -c "hostname worker
  exec ${{isthmus//$'\n'/ }} /usr/sbin/sshd -De -f {root}/docker/sshd_config" 2>{work}/log &
sshd=$!
until (exec 3<>/dev/tcp/127.0.0.1/2222) 2>/dev/null; do kill -0 $sshd; done
hostname launcher
$isthmus LLM_MODEL=m NCCL_DEBUG=INFO {mpirun} -np 2 --bind-to none -x LLM_MODEL -x NCCL_DEBUG \\
  --host localhost:1,{worker}:1 \\
  sh -c 'echo $OMPI_COMM_WORLD_RANK $(hostname) $LLM_MODEL $NCCL_DEBUG'
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    if os.getuid() != 0:
        pytest.skip("only root can make the namespaces that this needs")
    for tool, package in (("sshd", "openssh-server"), ("ssh-keygen", "openssh-client")):
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"there is no {tool} here (Debian: apt-get install {package})")
    keys = tmp_path / "keys"
    keys.mkdir()
    make = ["ssh-keygen", "-q", "-t", "ecdsa", "-b", "521", "-m", "PEM", "-N", ""]
    subprocess.run([*make, "-f", str(keys / "id_rsa")], check=True)
    (keys / "authorized_keys").write_text((keys / "id_rsa.pub").read_text())
    (tmp_path / "ssh_config.d").mkdir()
    shutil.copy(ROOT / "docker/ssh_config", tmp_path / "ssh_config.d/isthmus.conf")
    user = "isthmus:x:10001:10001::/home/isthmus:/bin/bash\n"
    (tmp_path / "passwd").write_text(Path("/etc/passwd").read_text() + user)
    (tmp_path / "group").write_text(Path("/etc/group").read_text() + "isthmus:x:10001:\n")
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost {WORKER}\n")
    return tmp_path


def ranks(work: Path) -> list[str]:
    script = INSIDE.format(
        work=work, root=ROOT, worker=WORKER, mpirun=Path(sys.executable).with_name("mpirun")
    )
    alone = ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child"]
    command = [*alone, "--mount-proc", "bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr + (work / "log").read_text()
    return sorted(done.stdout.splitlines())


def test_a_rank_on_a_worker_has_the_launchers_settings(work: Path) -> None:
    assert ranks(work) == ["0 launcher m INFO", "1 worker m INFO"]

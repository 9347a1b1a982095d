"""The ranks in lock-step: who they are, and how rank 0's plan reaches the others.

mpirun starts the ranks and MPI introduces them to each other; from then on they speak through
`torch.distributed`: gloo for plans, DeepSpeed's backend for the model's all-reduce.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import deepspeed
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from llm_backend.engine.plan import Ints, StepPlan
from llm_backend.engine.sampler import Floats
from llm_backend.runtime import extensions
from llm_backend.runtime.address import interface_towards, own_address

GLOO = "gloo"
NCCL = "cpu:gloo,cuda:nccl"
"""Host data has to be added up, too, which NCCL alone refuses:
https://docs.pytorch.org/docs/stable/distributed.html#torch.distributed.init_process_group."""

_INLINE = 1024  # 32-bit words of a plan that travel in its first broadcast
_FOREVER = timedelta(days=3650)  # an idle engine waits; the supervisor judges who is late


@dataclass(frozen=True, slots=True)
class Rank:
    """One process of the job.

    Attributes:
        index: 0 leads.
        size: ranks of the job.
        local_index: among the ranks of this host.
        local_size: ranks of this host.
    """

    index: int
    size: int
    local_index: int
    local_size: int


def introduce(advertise_address: str = "") -> Rank:
    """Start MPI and tell torch and DeepSpeed, through the environment, who this process is.

    `LOCAL_SIZE` decides whether DeepSpeed reduces through shared memory: it must be the number
    of ranks on this host, as MPI sees it.

    Args:
        advertise_address: where ranks on other hosts reach rank 0; empty to find out.

    Raises:
        EngineStartError: rank 0 is not reachable from the other hosts of the job.
    """
    from mpi4py import MPI  # importing it starts MPI, which a test of this module must not

    world = MPI.COMM_WORLD
    local = world.Split_type(MPI.COMM_TYPE_SHARED)
    rank = Rank(world.rank, world.size, local.rank, local.size)
    address, port = world.bcast(_rendezvous(rank, advertise_address) if rank.index == 0 else None)
    if rank.local_size < rank.size and (interface := interface_towards(address)) is not None:
        # Left to itself, gloo takes the interface of the host's name, which is often loopback.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    os.environ.update(
        RANK=str(rank.index),
        WORLD_SIZE=str(rank.size),
        LOCAL_RANK=str(rank.local_index),
        LOCAL_SIZE=str(rank.local_size),
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
    )
    return rank


def _rendezvous(rank: Rank, advertise_address: str) -> tuple[str, int]:
    """Return this host's address and a port that is free now."""
    one_host = rank.size == rank.local_size
    address = "127.0.0.1" if one_host else own_address(advertise_address)
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return address, port


def connect(rank: Rank, backend: str) -> None:
    """Join the ranks' process group, through which DeepSpeed reduces. One rank needs none.

    Args:
        rank: from `introduce`.
        backend: `GLOO`, or `NCCL` for ranks on GPUs.
    """
    if rank.size == 1:
        return
    extensions.leave_out_shared_memory_op()
    deepspeed.init_distributed(dist_backend=backend, timeout=_FOREVER, verbose=False)


def reduce_in_shared_memory(rank: Rank) -> None:
    """Have DeepSpeed reduce in shared memory if all ranks are on one host and have its operator.

    All of them call it. Does what DeepSpeed's backend does at its start, if it has the operator.
    The segments lose their names as soon as every rank has mapped them: a killed rank then leaves
    nothing behind.
    """
    if rank.size == 1:
        return
    op = extensions.shared_memory_op(one_host=rank.local_size == rank.size)
    if sum_over_ranks(int(op is not None), rank) < rank.size:
        return
    backend = deepspeed.comm.comm.cdb
    op.initialize(rank.size, rank.index)
    backend.shm_vector_kernel_level = op.vector_kernel_level()
    dist.barrier()
    extensions.unlink_shared_memory(rank.index)


def sum_over_ranks(value: int, rank: Rank) -> int:
    """Return the sum of what the ranks call it with."""
    if rank.size == 1:
        return value
    total = torch.tensor([value], dtype=torch.int64)
    dist.all_reduce(total)
    return int(total)


class StepRunner(Protocol):
    """What computes a plan on one rank."""

    def run(self, plan: StepPlan) -> Tensor:
        """Return the logits [sampled, vocabulary] of the plan's sampling rows."""


class LockStep:
    """Runs each plan on all ranks at once.

    Rank 0 calls `run`, which returns its logits, and at last `stop`; the others call `follow`.

    Args:
        rank: this process.
        runner: this rank's model.
    """

    def __init__(self, rank: Rank, runner: StepRunner) -> None:
        self._runner = runner
        # Plans go through gloo on GPUs as well: they are host data, and its waiting is idle.
        self._group = dist.new_group(backend="gloo", timeout=_FOREVER) if rank.size > 1 else None

    def run(self, plan: StepPlan) -> Floats:
        """Have every rank compute a plan; return the logits [sampled, vocabulary]."""
        self._send(plan.to_array())
        logits: Floats = self._runner.run(plan).float().cpu().numpy()
        return logits

    def stop(self) -> None:
        """Make the other ranks return from `follow`."""
        self._send(np.zeros(0, dtype=np.int32))

    def follow(self) -> None:
        """Compute rank 0's plans until it stops."""
        while len(vector := self._receive()):
            self._runner.run(StepPlan.from_array(vector))

    def _send(self, vector: Ints) -> None:
        if self._group is None:
            return
        first = np.zeros(1 + _INLINE, dtype=np.int32)
        first[0] = len(vector)
        head, rest = vector[:_INLINE], vector[_INLINE:]
        first[1 : 1 + len(head)] = head
        dist.broadcast(torch.from_numpy(first), src=0, group=self._group)
        if len(rest):
            dist.broadcast(torch.from_numpy(rest.copy()), src=0, group=self._group)

    def _receive(self) -> Ints:
        first = torch.empty(1 + _INLINE, dtype=torch.int32)
        dist.broadcast(first, src=0, group=self._group)
        length = int(first[0])
        head = first[1 : 1 + length]
        if length > _INLINE:
            rest = torch.empty(length - _INLINE, dtype=torch.int32)
            dist.broadcast(rest, src=0, group=self._group)
            head = torch.cat([head, rest])
        return head.numpy()

"""Runs step plans on a GPU, by replaying CUDA graphs of a few fixed sizes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from llm_backend.engine.plan import StepPlan
from llm_backend.runtime.attention import LayerCache
from llm_backend.runtime.gpu.attention import PagedBatch
from llm_backend.runtime.gpu.inputs import Capacity, Inputs
from llm_backend.runtime.gpu.sizes import Size, Sizes
from llm_backend.runtime.model import LoadedModel
from llm_backend.runtime.progress import Progress


class CaptureError(Exception):
    """The model does something between its kernels that a CUDA graph cannot repeat."""


class GpuRunner:
    """One rank's model and KV cache on a GPU.

    Args:
        model: this rank's shard.
        caches: of each layer, from `runner.allocate`.
        capacity: the largest step.
        device: where both live.
        progress: counts the steps.
    """

    def __init__(
        self,
        model: LoadedModel,
        caches: list[LayerCache],
        capacity: Capacity,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self._model = model
        self._caches = caches
        self._capacity = capacity
        self._progress = progress
        self._inputs = Inputs(capacity, device)
        shape = (capacity.sequences, model.vocab_size)
        self._logits = torch.empty(shape, dtype=torch.float32, device=device)
        self._on_host = torch.empty(shape, pin_memory=True) if device.type == "cuda" else None
        self._sizes = Sizes(capacity.tokens, capacity.sequences)
        self._graphs: dict[Size, torch.cuda.CUDAGraph] = {}

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture a graph of every size, the largest first: the others then use its memory.

        Raises:
            CaptureError: the model waits for the GPU to decide how to go on, as mixtures of
                experts may. It runs without graphs as before.
        """
        self._inputs.clear()
        sizes = list(self._sizes)
        self._compute(sizes[0])  # what is made at the first use is no matter
        with _waiting_refused():
            self._compute(sizes[0])
        pool = torch.cuda.graph_pool_handle()
        graphs = {}
        for done, size in enumerate(sizes):
            self._progress.report("capturing CUDA graphs", 95 + 5 * done / len(sizes))
            self._compute(size)  # compiles kernels and lets libraries allocate, outside the graph
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._compute(size)
            graphs[size] = graph
        self._graphs = graphs

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> Tensor:
        """Compute one step and return the logits [sampled, vocabulary] of its sampling rows.

        They stay as they are until the next step.
        """
        size = self._sizes.fitting(plan)
        self._inputs.fill(plan, size.tile_rows)
        graph = self._graphs.get(size)
        if graph is None:
            self._compute(size)
        else:
            graph.replay()
        self._progress.steps += 1
        logits = self._logits[: int(plan.samples.sum())]
        return logits if self._on_host is None else self._fetch(logits, self._on_host)

    def _fetch(self, logits: Tensor, on_host: Tensor) -> Tensor:
        """Wait for the logits; into memory that is pinned they come several times as fast."""
        fetched = on_host[: len(logits)].copy_(logits, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return fetched

    def _compute(self, size: Size) -> None:
        """Run the model on what lies in the inputs, and leave the logits in `_logits`."""
        inputs = self._inputs
        batch = PagedBatch(
            caches=self._caches,
            inputs=inputs,
            num_tokens=size.tokens,
            num_tiles=size.tiles,
            tile_rows=size.tile_rows,
            block_size=self._capacity.block_size,
        )
        logits = self._model.forward(
            inputs.tokens[: size.tokens],
            inputs.positions[: size.tokens],
            batch,
            inputs.sampled[: size.sequences],
        )
        self._logits[: size.sequences] = logits


@contextmanager
def _waiting_refused() -> Iterator[None]:
    """Raise CaptureError where the block waits for the GPU.

    It would fail during the capture as well, and leave half a graph behind.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        raise CaptureError(str(error)) from error
    finally:
        torch.cuda.set_sync_debug_mode(before)

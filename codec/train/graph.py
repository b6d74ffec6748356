"""Steps of a GPU as CUDA graphs: all that a step launches is recorded once, and later replayed by one call.

Capture of the whole step, as PyTorch's notes on CUDA semantics have it ("CUDA Graphs", whole-network capture): warm-up
on a side stream, inputs that lie still, and a graph for each kind of step. The warm-up steps are steps of the run like
any other. What is captured is `Learner.step`, which the CPU runs as it is; replayed or not, it gives the same.

What must hold for it: no question to the device within the step (a test sees to it), every tensor that outlives the
step is changed in place, and all that differs from step to step comes in by `Inputs`.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from codec.train.learner import Inputs, Plan, Taken

WARM_UP = 3
"""Steps of a kind before it is captured: they make optimizer states, FFT plans and the choices of cuDNN."""

Kind = tuple[Plan, tuple[torch.Size | None, ...]]
"""Steps of one kind launch the same: they have the same plan and shapes."""


class Captured(NamedTuple):
    """A step that can be replayed."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    """Where the graph reads."""
    taken: Taken
    """Where it leaves its results, until it is replayed again."""


class GraphedSteps:
    """Takes the steps of a learner, by replay from the fourth of each kind on; on one GPU, in one process.

    Where a step can't be captured, a warning says why, and steps go on being launched one operation at a time.

    Args:
        step: `Learner.step`.
    """

    def __init__(self, step: Callable[[Inputs, Plan], Taken]) -> None:
        self.step = step
        self.stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.num_taken: Counter[Kind] = Counter()
        self.captured: dict[Kind, Captured] = {}
        self.can_capture = True

    def __call__(self, inputs: Inputs, plan: Plan) -> Taken:
        """Take a step. What it returns is overwritten by the next one of its kind."""
        kind = plan, tuple(None if each is None else each.shape for each in inputs)
        if kind not in self.captured:
            if not self.can_capture:
                return self.step(inputs, plan)
            self.num_taken[kind] += 1
            if self.num_taken[kind] <= WARM_UP:
                return self._warm_up(inputs, plan)
            try:
                self.captured[kind] = self._capture(inputs, plan)
            except RuntimeError as error:  # CUDA's own errors are of this class too
                reason = " ".join(str(error).split())[:200]
                warnings.warn(f"steps are not replayed as a CUDA graph, which is slower: {reason}", stacklevel=2)
                self.can_capture = False
                torch.cuda.synchronize()
                return self.step(inputs, plan)
        return self._replay(self.captured[kind], inputs)

    def _warm_up(self, inputs: Inputs, plan: Plan) -> Taken:
        """Take a step on the side stream, so that nothing which outlives it belongs to the default one."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            taken = self.step(inputs, plan)
        current.wait_stream(self.stream)
        return taken

    def _capture(self, inputs: Inputs, plan: Plan) -> Captured:
        """Record a step; it is not taken."""
        still = Inputs._make(None if each is None else each.clone() for each in inputs)
        graph = torch.cuda.CUDAGraph()
        # Each graph has a memory pool of its own: two kinds alternate, and the results of one are read after it.
        with torch.cuda.graph(graph):
            taken = self.step(still, plan)
        return Captured(graph, still, taken)

    def _replay(self, captured: Captured, inputs: Inputs) -> Taken:
        for still, each in zip(captured.inputs, inputs, strict=True):
            if isinstance(still, Tensor) and isinstance(each, Tensor):
                still.copy_(each, non_blocking=True)
        captured.graph.replay()
        return captured.taken

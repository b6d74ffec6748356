"""Training steps as CUDA graphs: all kernels of a step are recorded once and replayed by one call.

Captures the whole step (PyTorch's notes on CUDA semantics, "CUDA Graphs", whole-network capture): warm-up on a side
stream, inputs at fixed addresses, one graph for each kind of step. Warm-up steps are ordinary steps of the run, and a
replayed step gives the same result as `Learner.step`.

This requires of a step that it never waits for the device (tested), changes every tensor that outlives it in place, and
takes everything that differs between steps from `Inputs`.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from codec.errors import one_line
from codec.train.learner import Inputs, Plan, StepResult

WARM_UP = 3
"""Steps of a kind before its capture: they allocate optimizer states and FFT plans and let cuDNN choose algorithms."""

Kind = tuple[Plan, tuple[torch.Size | None, ...]]
"""Plan and shapes of the inputs: steps of one kind launch the same kernels."""


class Captured(NamedTuple):
    """A recorded step."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    """Tensors that the graph reads."""
    result: StepResult
    """Tensors that the graph writes; valid until the next replay."""


class GraphedSteps:
    """Runs the steps of a learner on one GPU in one process, from the fourth of each kind by replay.

    If a step can't be captured, this warns with the reason and runs all further steps without a graph.

    Args:
        step: `Learner.step`.
    """

    def __init__(self, step: Callable[[Inputs, Plan], StepResult]) -> None:
        self.step = step
        self.stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.num_warm_up: Counter[Kind] = Counter()
        self.captured: dict[Kind, Captured] = {}
        self.can_capture = True

    def __call__(self, inputs: Inputs, plan: Plan) -> StepResult:
        """Do a step. The next step of the same kind overwrites the result."""
        kind = plan, tuple(None if each is None else each.shape for each in inputs)
        if kind not in self.captured:
            if not self.can_capture:
                return self.step(inputs, plan)
            if self.num_warm_up[kind] < WARM_UP:
                self.num_warm_up[kind] += 1
                return self._warm_up(inputs, plan)
            try:
                self.captured[kind] = self._capture(inputs, plan)
            except RuntimeError as error:  # the class of CUDA's own errors, too
                reason = one_line(error)[:200]
                warnings.warn(f"steps are not replayed as a CUDA graph, which is slower: {reason}", stacklevel=2)
                self.can_capture = False
                torch.cuda.synchronize()
                return self.step(inputs, plan)
        return self._replay(self.captured[kind], inputs)

    def _warm_up(self, inputs: Inputs, plan: Plan) -> StepResult:
        """Do a step on the side stream: what outlives it must not be allocated on the default stream."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = self.step(inputs, plan)
        current.wait_stream(self.stream)
        return result

    def _capture(self, inputs: Inputs, plan: Plan) -> Captured:
        """Record a step without running it."""
        static = Inputs._make(None if each is None else each.clone() for each in inputs)
        graph = torch.cuda.CUDAGraph()
        # A memory pool for each graph: kinds alternate, and a result is read after a step of another kind has run.
        with torch.cuda.graph(graph):
            result = self.step(static, plan)
        return Captured(graph, static, result)

    def _replay(self, captured: Captured, inputs: Inputs) -> StepResult:
        for static, each in zip(captured.inputs, inputs, strict=True):
            if isinstance(static, Tensor) and isinstance(each, Tensor):
                static.copy_(each, non_blocking=True)
        captured.graph.replay()
        return captured.result

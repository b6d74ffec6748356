"""The replay of training steps, with a stand-in for CUDA graphs that records calls, so that no GPU is needed.

What a step may do inside a real graph is tested in `test_learner`.
"""

import contextlib

import pytest
import torch
from messages import one_line

from codec.train.graph import WARM_UP, GraphedSteps
from codec.train.learner import Inputs, Plan, StepResult


class Stream:
    def wait_stream(self, other):
        pass


class Graph:
    """Stands for a CUDA graph: calls made during capture are recorded, not run, and run at every replay."""

    capturing = None

    def __init__(self):
        self.calls = []

    def replay(self):
        for call in self.calls:
            call()


@contextlib.contextmanager
def capture(graph):
    Graph.capturing = graph
    try:
        yield
    finally:
        Graph.capturing = None


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)


class Learner:
    """Adds up the samples of its inputs."""

    def __init__(self):
        self.total, self.launched = torch.zeros(()), 0

    def step(self, inputs, plan):
        norm = torch.zeros(())

        def work():
            self.total.add_(inputs.audio.sum())
            norm.copy_(inputs.audio.sum())

        self.launched += 1
        Graph.capturing.calls.append(work) if Graph.capturing else work()
        return StepResult(None, None, {"norm": norm})


def inputs(value, size=2):
    audio = torch.full((size, 1, 4), float(value))
    return Inputs(audio, None, torch.arange(size), None, torch.tensor(0.1), torch.tensor(0.5))


PLAIN, ADVERSARIAL = Plan(True, False), Plan(True, True)


def test_every_step_is_taken_once_and_replayed_after_the_warm_up():
    learner = Learner()
    steps = GraphedSteps(learner.step)
    for number in range(1, 11):
        result = steps(inputs(number), PLAIN)
        assert float(result.grad_norms["norm"]) == 8 * number
        assert float(learner.total) == 8 * sum(range(1, number + 1))
    assert learner.launched == WARM_UP + 1


def test_each_kind_of_step_has_its_own_graph():
    learner = Learner()
    steps = GraphedSteps(learner.step)
    for number in range(8):
        for plan in (PLAIN, ADVERSARIAL):
            steps(inputs(number), plan)
    assert learner.launched == 2 * (WARM_UP + 1) and len(steps.captured) == 2
    steps(inputs(1, size=3), PLAIN)  # as the last batch of an epoch
    assert learner.launched == 2 * (WARM_UP + 1) + 1


def test_steps_go_on_without_a_graph_when_capture_fails():
    learner = Learner()

    def step(inputs, plan):
        if Graph.capturing:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return learner.step(inputs, plan)

    steps = GraphedSteps(step)
    for number in range(1, WARM_UP + 1):
        steps(inputs(number), PLAIN)
    with pytest.warns(UserWarning, match=one_line("not replayed", "operation not permitted", "more")):
        steps(inputs(4), PLAIN)
    steps(inputs(5), PLAIN)
    steps(inputs(6), ADVERSARIAL)
    assert float(learner.total) == 8 * 21 and not steps.captured

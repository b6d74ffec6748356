"""What a run tells: means since the last report, that survive a resume."""

import io

import pytest
import torch
from gaussian_runs import short_recipe
from models import make_quantizer, noise
from tqdm import tqdm

from codec.train.objective import Term
from codec.train.reporter import Reporter
from codec.train.source import open_source


class Recorder:
    """A tracker that keeps numbers."""

    def __init__(self):
        self.values = {}

    def scalars(self, values, step):
        self.values[step] = dict(values)


def reporter(trackers=(), world_size=1):
    recipe = short_recipe("gaussian_vq")
    reporter = Reporter(recipe, open_source(recipe), world_size=world_size, device=torch.device("cpu"))
    reporter.trackers = list(trackers)
    return reporter


def step_of(value):
    terms = {"reconstruction": Term(1.0, torch.tensor(value)), "commitment": Term(0.5, torch.tensor(2 * value))}
    return torch.tensor(2 * value), terms


def report(subject, step=20, stream=None):
    quantizer = make_quantizer()
    progress = tqdm(total=1, file=stream or io.StringIO())
    subject.report(
        step,
        ["reconstruction", "commitment"],
        {"train/lr": 0.1},
        quantizer=quantizer,
        output=quantizer(noise(2, 10, 40)),
        steps_per_second=3.0,
        progress=progress,
    )
    progress.close()


def test_losses_are_means_since_the_last_report():
    recorder = Recorder()
    subject = reporter([recorder])
    assert subject.every == 20  # steps of an epoch: 2000 vectors, 100 a batch
    for value in (1.0, 2.0, 6.0):
        subject.add(*step_of(value))
    report(subject)
    subject.add(*step_of(5.0))
    report(subject, 40)
    first, second = recorder.values[20], recorder.values[40]
    assert (first["loss/total"], first["loss/reconstruction"], first["loss/commitment"]) == (6.0, 3.0, 6.0)
    assert (second["loss/total"], second["loss/reconstruction"]) == (10.0, 5.0)
    assert first["train/lr"] == 0.1
    assert first["train/vectors_per_second"] == 300.0
    assert {f"{name}/level_4" for name in ("perplexity", "usage", "dead_rate", "entropy")} < first.keys()


def test_means_go_on_where_a_run_stopped():
    whole, first = Recorder(), Recorder()
    subject, stopped, resumed = reporter([whole]), reporter(), reporter([first])
    for value in (0.1, 0.7):
        subject.add(*step_of(value))
        stopped.add(*step_of(value))
    resumed.restore(stopped.state(), is_first=True)
    for each in (subject, resumed):
        each.add(*step_of(0.3))
        report(each)
    assert first.values == whole.values


def test_only_one_process_takes_the_sums_of_all():
    stopped = reporter()
    stopped.add(*step_of(1.0))
    others = reporter()
    others.restore(stopped.state(), is_first=False)
    assert others.state() == {"loss_sums": [0.0, 0.0, 0.0], "num_summed": 1}


def test_an_epoch_is_a_line_in_the_terminal():
    stream = io.StringIO()
    subject = reporter([Recorder()])
    subject.add(*step_of(1.0))
    report(subject, 60, stream)
    (line,) = [line for line in stream.getvalue().replace("\r", "\n").splitlines() if "epoch" in line]
    assert line.split() == ["epoch", "3", "total", "2.0000", "reconstruction", "1.0000", "commitment", "2.0000"]


def test_other_processes_print_nothing():
    stream = io.StringIO()
    subject = reporter()
    subject.add(*step_of(1.0))
    report(subject, 60, stream)
    assert "epoch" not in stream.getvalue()


def test_two_processes_halve_the_sum():
    recorder = Recorder()
    subject = reporter([recorder], world_size=2)  # in one process nothing is added
    subject.add(*step_of(1.0))
    report(subject)
    assert recorder.values[20]["loss/total"] == pytest.approx(1.0)

"""Reports of a run: means since the last report, which survive a resume."""

import functools
import io
import math

import torch
from gaussian_runs import short_recipe
from models import make_quantizer, noise
from tqdm import tqdm

from codec.experiment import build_reporter, build_source
from codec.train.losses.objective import Term


class Recorder:
    """A tracker that keeps numbers."""

    def __init__(self):
        self.values = {}

    def scalars(self, values, step):
        self.values[step] = dict(values)


def reporter():
    return build_reporter(*recipe_and_source(), torch.device("cpu"))


@functools.cache
def recipe_and_source():
    recipe = short_recipe("gaussian_vq")
    return recipe, build_source(recipe, torch.device("cpu"))


def add(subject, value, finite=True):
    terms = {"reconstruction": Term(1.0, torch.tensor(value)), "commitment": Term(0.5, torch.tensor(2 * value))}
    subject.add(torch.tensor(2 * value), terms, torch.tensor(finite))


def report(subject, trackers=(), step=20, stream=None):
    quantizer = make_quantizer()
    progress = tqdm(total=1, file=stream or io.StringIO())
    subject.report(
        step,
        {"train/lr": 0.1},
        quantizer=quantizer,
        statistics=quantizer(noise(2, 10, 40)).statistics,
        steps_per_second=3.0,
        trackers=trackers,
        progress=progress,
    )
    progress.close()


def test_losses_are_means_since_the_last_report():
    recorder = Recorder()
    subject = reporter()
    assert subject.every == 20  # steps of an epoch: 2000 vectors, 100 a batch
    for value in (1.0, 2.0, 6.0):
        add(subject, value)
    report(subject, [recorder])
    add(subject, 5.0)
    report(subject, [recorder], 40)
    first, second = recorder.values[20], recorder.values[40]
    assert (first["loss/total"], first["loss/reconstruction"], first["loss/commitment"]) == (6.0, 3.0, 6.0)
    assert (second["loss/total"], second["loss/reconstruction"]) == (10.0, 5.0)
    assert first["train/lr"] == 0.1
    assert first["train/vectors_per_second"] == 300.0
    assert {f"{name}/level_4" for name in ("perplexity", "usage", "dead_rate", "entropy")} < first.keys()


def test_a_step_that_was_skipped_is_in_no_mean():
    recorder = Recorder()
    subject = reporter()
    add(subject, 1.0)
    add(subject, math.nan, finite=False)
    report(subject, [recorder])
    add(subject, math.nan, finite=False)
    report(subject, [recorder], 40)
    assert recorder.values[20]["loss/total"] == 2.0
    assert math.isnan(recorder.values[40]["loss/total"])


def test_the_mean_of_a_term_is_over_the_steps_that_have_it():
    recorder = Recorder()
    subject = reporter()
    for value in (1.0, 3.0):
        add(subject, value)
    subject.add(torch.tensor(8.0), {"reconstruction": Term(1.0, torch.tensor(8.0))}, torch.tensor(True))
    report(subject, [recorder])
    values = recorder.values[20]
    assert (values["loss/total"], values["loss/reconstruction"], values["loss/commitment"]) == (16 / 3, 4.0, 4.0)


def test_means_go_on_where_a_run_stopped():
    whole, first = Recorder(), Recorder()
    subject, stopped, resumed = reporter(), reporter(), reporter()
    for value in (0.1, 0.7):
        add(subject, value)
        add(stopped, value)
    resumed.restore(stopped.state(), is_first=True)
    for each, recorder in ((subject, whole), (resumed, first)):
        add(each, 0.3)
        report(each, [recorder])
    assert first.values == whole.values


def test_only_one_process_takes_the_sums_of_all():
    stopped = reporter()
    add(stopped, 1.0)
    others = reporter()
    others.restore(stopped.state(), is_first=False)
    state = others.state()
    assert state["loss_sums"] == state["num_summed"] == [0.0, 0.0, 0.0]


def test_each_epoch_prints_one_line():
    stream = io.StringIO()
    subject = reporter()
    add(subject, 1.0)
    report(subject, [Recorder()], 60, stream)
    (line,) = [line for line in stream.getvalue().replace("\r", "\n").splitlines() if "epoch" in line]
    assert line.split() == ["epoch", "3", "total", "2.0000", "reconstruction", "1.0000", "commitment", "2.0000"]


def test_other_processes_print_nothing():
    stream = io.StringIO()
    subject = reporter()
    add(subject, 1.0)
    report(subject, (), 60, stream)
    assert "epoch" not in stream.getvalue()

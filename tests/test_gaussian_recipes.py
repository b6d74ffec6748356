"""The shipped Gaussian recipes on short vectors: distortion, use of the codes, and never below Shannon's bound."""

import json
import os
import subprocess
import sys

import pytest
import tiny_runs
import torch
from gaussian_runs import SHANNON_BOUND, SHORT, make_trainer, results_of, short_recipe, start, train
from messages import one_line
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from codec import cli
from codec.errors import ConfigError
from codec.inference.compression import compress
from codec.inference.decompression import decompress
from codec.inference.pretrained import load_codec
from codec.study.rate_distortion import ar1_covariance, shannon_bound
from codec.study.vectors import GaussianVectors

FAST = ["--optimizer.lr", "0.01", "--optimizer.final-lr", "0.001"]
QUICK = ["--codec.quantizer.decay", "0.98"]
SMALL = ["--codec.quantizer.codebook-size", "8"]
WIDE = ["--codec.quantizer.codebook-dim", "16"]
RUNS = {  # name: words, and the distortion that it reached when this was written, at 16 dimensions and 6 bits
    "gaussian_vq": (FAST, 0.6899),
    "gaussian_vq_ema": (QUICK, 0.6936),
    "gaussian_vq_ema_fresh": (QUICK, 0.6836),
    "bottlenecks/residual": (FAST + SMALL, 0.7219),
    "bottlenecks/product": (FAST + SMALL, 0.7196),
    "bottlenecks/simvq": (FAST, 0.7132),
    "bottlenecks/straight_through": (FAST + WIDE, 0.6940),
    "bottlenecks/rotation": (FAST + WIDE, 0.7021),
    "bottlenecks/low_dimensional": (FAST, 0.7310),
    "bottlenecks/fsq": ([*FAST, "--codec.quantizer.steps", "4", "4", "4"], 0.8387),
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Run a recipe once; returns its run directory."""
    done = {}

    def run(name):
        if name not in done:
            done[name] = tmp_path_factory.mktemp("run")
            words = [*FAST, "--train.epochs", "30"] if name == "gaussian_vq_as_published" else RUNS[name][0]
            train(short_recipe(name, *words), done[name], pictures=name == "gaussian_vq")
        return done[name]

    return run


@pytest.mark.parametrize("name", RUNS)
def test_a_quantizer_gets_near_the_bound_and_not_below(name, run_dir):
    results = results_of(run_dir(name))
    assert results["shannon_bound"] == pytest.approx(SHANNON_BOUND)
    assert results["bits"] == 6 and results["dim"] == 16 and results["num_held_out"] == 50_000
    noise = 4 * (2 / 16 / 50_000) ** 0.5
    assert results["held_out_distortion"] + noise > SHANNON_BOUND
    assert results["held_out_distortion"] <= 1.01 * RUNS[name][1]
    assert results["usage"] >= 0.99
    assert results["seconds"] > 0


def test_the_published_listing_loses_most_of_the_possible_gain(run_dir):
    published, mended = (results_of(run_dir(name)) for name in ("gaussian_vq_as_published", "gaussian_vq"))
    assert published["held_out_distortion"] - SHANNON_BOUND > 2.5 * (mended["held_out_distortion"] - SHANNON_BOUND)
    assert published["held_out_distortion"] < 1.0  # a codebook of zeros has that


def test_a_fixed_set_is_fitted_and_fresh_vectors_are_not(run_dir):
    fixed, fresh = (results_of(run_dir(name)) for name in ("gaussian_vq_ema", "gaussian_vq_ema_fresh"))
    assert fixed["train_distortion"] < 0.93 * fixed["held_out_distortion"]
    assert fresh["train_distortion"] == pytest.approx(fresh["held_out_distortion"], rel=0.02)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_one_dimension_ends_at_lloyd_max(update, tmp_path):
    short = ["--train.epochs", "10", "--codec.latent-dim", "1", "--data.num-vectors", "100000"]
    words = [*short, "--train.batch-size", "10000", "--codec.quantizer.codebook-size", "4", "--train.init-batches", "1"]
    train(short_recipe(f"bottlenecks/scalar_{update}", *words), tmp_path)
    results = results_of(tmp_path)
    assert 0.117482 <= results["held_out_distortion"] <= 1.01 * 0.117482  # in closed form: it can't be below the best
    assert results["num_held_out"] == 0
    assert results["perplexity"] == pytest.approx(3.76, abs=0.05)


def test_more_levels_are_nearer(run_dir):
    by_level = results_of(run_dir("bottlenecks/residual"))["distortion_by_level"]
    assert len(by_level) == 2 and 1 > by_level[0] > by_level[1] + 0.05


@pytest.mark.parametrize("init", ["kmeans", "data", "normal", "spread"])
def test_every_initialisation_learns(init, tmp_path):
    words = ["--train.init", init, "--train.init-scale", "0.5", "--train.epochs", "10", *QUICK]
    train(short_recipe("gaussian_vq_ema", *words), tmp_path)
    assert results_of(tmp_path)["held_out_distortion"] < 0.75


def test_correlated_vectors_are_held_against_reverse_water_filling(tmp_path):
    train(short_recipe("gaussian_vq", *FAST, "--data.correlation", "0.9"), tmp_path)
    results = results_of(tmp_path)
    bound = shannon_bound(6.0, ar1_covariance(16, 0.9))
    assert results["shannon_bound"] == pytest.approx(bound)
    assert bound < results["held_out_distortion"] < 1.6 * bound < SHANNON_BOUND / 2


# ---- What a run leaves


def test_pictures_are_files_and_in_tensorboard(run_dir):
    names = {"codebook", "usage", "rate_distortion", "learning_curves"}
    folder = run_dir("gaussian_vq")
    assert {path.stem for path in (folder / "figures").iterdir()} == names
    for path in (folder / "figures").iterdir():
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
    recorded = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    recorded.Reload()
    assert set(recorded.Tags()["images"]) == names
    assert [event.step for event in recorded.Scalars("loss/codebook")] == list(range(20, 301, 20))  # once an epoch
    assert {"loss/total", "loss/commitment", "loss/reconstruction", "valid/distortion"} <= set(
        recorded.Tags()["scalars"]
    )


def test_losses_of_an_epoch_are_means_over_its_vectors(run_dir):
    """With the identity as encoder and decoder all three are the distortion on the training set."""
    lines = [json.loads(line) for line in (run_dir("gaussian_vq") / "history.jsonl").read_text().splitlines()]
    last = [line for line in lines if "loss/total" in line][-1]
    assert last["loss/reconstruction"] == pytest.approx(last["loss/commitment"], rel=1e-5)
    assert last["loss/reconstruction"] == pytest.approx(last["loss/codebook"], rel=1e-5)
    assert last["loss/total"] == pytest.approx(3 * last["loss/codebook"], rel=1e-5)
    assert last["loss/codebook"] == pytest.approx(results_of(run_dir("gaussian_vq"))["train_distortion"], rel=0.01)


@pytest.mark.parametrize("name", ["gaussian_vq", "gaussian_vq_ema", "bottlenecks/product", "bottlenecks/fsq"])
def test_a_run_is_a_codec(name, run_dir):
    """It encodes and decodes any signal, through the file format too."""
    codec = load_codec(run_dir(name))
    audio = torch.randn(1, 2, 1001, generator=torch.Generator().manual_seed(3))
    bitstream = compress(codec, audio)
    assert bitstream.codes.shape == (2, codec.quantizer.num_quantizers, 63)
    decoded = decompress(codec, type(bitstream).from_bytes(bitstream.to_bytes()))
    assert decoded.shape == audio.shape
    assert (decoded - audio).square().mean() < 0.95


# ---- The trainer


def stop_before(monkeypatch, trainer, step):
    take = trainer._step

    def watched(batch, bar):
        if trainer.progress.step == step:
            raise KeyboardInterrupt
        return take(batch, bar)

    monkeypatch.setattr(trainer, "_step", watched)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


@pytest.mark.parametrize("name", ["gaussian_vq", "gaussian_vq_ema", "gaussian_vq_ema_fresh"])
def test_a_run_stopped_within_an_epoch_goes_on_bit_for_bit(name, tmp_path, monkeypatch):
    words = ["--train.epochs", "3", "--codec.quantizer.dead-threshold", "0.7", "--train.validate-every", "25"]
    recipe = short_recipe(name, *words)
    whole, part = tmp_path / "whole", tmp_path / "part"
    expected = train(recipe, whole)
    stop_before(monkeypatch, start(recipe, part), 29)
    resumed = make_trainer(recipe, part)
    resumed.resume()
    assert resumed.progress.step == 29
    resumed.fit()
    for key, tensor in expected.learner.codec.state_dict().items():
        assert torch.equal(resumed.learner.codec.state_dict()[key], tensor), key
        assert torch.equal(resumed.learner.ema.state_dict()[key], expected.learner.ema.state_dict()[key]), key
    results = [results_of(folder) for folder in (whole, part)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]

    def losses(folder):
        lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        return [{key: line[key] for key in line if "per_second" not in key} for line in lines]

    assert losses(part) == losses(whole)


def test_an_ema_codebook_needs_no_optimizer(tmp_path):
    trainer = train(short_recipe("gaussian_vq_ema", "--train.epochs", "1"), tmp_path)
    assert trainer.learner.optimizer is None
    assert list(trainer.learner.codec.parameters()) == []


def test_a_loss_that_is_not_finite_changes_nothing_without_an_optimizer(tmp_path, monkeypatch):
    batches = GaussianVectors.batches

    def poisoned(self, **options):
        for number, batch in enumerate(batches(self, **options)):
            yield batch._replace(audio=batch.audio * float("nan")) if number == 3 else batch

    monkeypatch.setattr(GaussianVectors, "batches", poisoned)
    trainer = train(short_recipe("gaussian_vq_ema", "--train.epochs", "1"), tmp_path)
    assert trainer.progress.skipped_steps == 1
    assert trainer.learner.codec.quantizer.codebooks.table.isfinite().all()


def test_epochs_are_refused_for_data_without_epochs(tmp_path):
    recipe = tiny_runs.tiny_recipe(tiny_runs.write_clips(tmp_path / "clips"), train__epochs=3)
    with pytest.raises(ConfigError, match=one_line("train.epochs", "data")):
        tiny_runs.make_trainer(recipe, tmp_path / "run")


# ---- The command


def test_the_command_prints_every_epoch_and_the_result(tmp_path, capsys):
    words = ["gaussian_vq_ema", *SHORT, "--train.epochs", "2", "--device", "cpu", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        cli.train_main(words)
    out, err = capsys.readouterr()
    assert stop.value.code == 0
    epochs = [line.split()[:3] for line in err.replace("\r", "\n").splitlines() if line.strip().startswith("epoch")]
    assert epochs == [["epoch", "1", "total"], ["epoch", "2", "total"]]
    results = results_of(tmp_path)
    checkpoint, summary, where = out.splitlines()
    assert checkpoint == f"last checkpoint: {tmp_path}/checkpoints/step-00000040"
    assert summary.startswith(f"held-out distortion {results['held_out_distortion']:.4f} a dimension")
    assert "Shannon's bound 0.5946" in summary
    assert where == f"results: {tmp_path}/results.json, pictures: {tmp_path}/figures"


def test_the_command_logs_to_wandb_offline(tmp_path):
    pytest.importorskip("wandb")
    words = ["gaussian_vq", *SHORT, "--train.epochs", "2", "--device", "cpu", "--out", str(tmp_path / "run")]
    result = subprocess.run(
        [sys.executable, "-c", "from codec.cli import train_main; train_main()", *words, "--train.trackers", "wandb"],
        env=os.environ | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (folder,) = (tmp_path / "run/wandb").glob("offline-run-*")
    (log,) = folder.glob("*.wandb")
    recorded = log.read_bytes()
    for name in (b"loss/total", b"loss/commitment", b"loss/codebook", b"loss/reconstruction", b"valid/distortion"):
        assert name in recorded
    assert len(list(folder.glob("files/media/images/*.png"))) == 4
    assert not (tmp_path / "run/tensorboard").exists()

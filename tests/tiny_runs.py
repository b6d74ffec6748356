"""Tiny training runs: a codec of a few thousand parameters on a few short recordings."""

import json
from pathlib import Path

import numpy as np
import soundfile as sf
from models import tiny_config

from codec.config import QuantizerConfig, from_dict, to_dict
from codec.experiment import build_trainer
from codec.recipe import Recipe
from codec.train.engine import build_fabric
from codec.train.rundir import record_run

RATE = 16_000

QUANTIZER = QuantizerConfig(num_quantizers=3, codebook_size=16, codebook_dim=6, dead_threshold=0.3)
RECIPE = {
    "name": "tiny",
    "codec": to_dict(tiny_config(quantizer=QUANTIZER)),
    "data": {"train": ".", "segment_seconds": 0.1, "num_workers": 0},
    "optimizer": {"lr": 3e-3, "warmup_steps": 2, "ema_decay": 0.9},
    "train": {
        "steps": 6,
        "batch_size": 4,
        "precision": "32-true",
        "bypass_steps": 2,
        "init_batches": 2,
        "kmeans_iterations": 3,
        "log_every": 1,
    },
    "validation": {"bitrates": [4000, 10_000], "num_samples_logged": 0},
}


def buzz(seconds, hz, sample_rate=RATE):
    """Samples [T]: a few harmonics that swell and fade, and some noise."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    tone = sum(np.sin(2 * np.pi * k * hz * time) / k for k in range(1, 6))
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 5 * time)
    return 0.2 * envelope * tone + 0.01 * np.random.default_rng(round(hz)).standard_normal(len(time))


def write_clips(folder, seconds=(0.3, 0.2, 0.09, 0.08, 0.07, 0.06)):
    """Write one recording per length; more than a third of what is drawn is shorter than a segment."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, duration in enumerate(seconds):
        sf.write(folder / f"clip_{number}.wav", buzz(duration, 110 + 40 * number), RATE, "FLOAT")
    return folder


def tiny_recipe(root, **changes):
    """Return the recipe above on the files of `root`; keywords named `section__key` change it."""
    values = json.loads(json.dumps(RECIPE | {"data": RECIPE["data"] | {"root": str(root)}}))
    for path, value in changes.items():
        *sections, key = path.split("__")
        section = values
        for name in sections:
            section = section[name] if name in section else section.setdefault(name, {})
        section[key] = value
    return from_dict(Recipe, values, source="tiny")


def adversarial_changes(**changes):
    """Changes to the recipe above that train it against two tiny discriminators of each kind."""
    tiny = {"periods": [2, 3], "period_channels": 2, "fft_sizes": [128, 256], "spectral_channels": 2}
    return {"loss__adversarial": 1.0, "loss__feature_matching": 2.0, "discriminators": tiny | changes}


def distributed_recipe(root, update, **changes):
    """Five steps with quantizer dropout, codewords that die, and the change from bypass to codebooks among them.

    `update` is how codebooks learn, or "adversarial" for EMA codebooks and discriminators.
    """
    adversarial = update == "adversarial"
    return tiny_recipe(
        root,
        **(adversarial_changes(start_step=2) if adversarial else {}),
        codec__quantizer__update="ema" if adversarial else update,
        codec__quantizer__dead_threshold=0.6,
        codec__quantizer__decay=0.7,
        optimizer__lr=1e-3,
        **({"train__steps": 5, "train__bypass_steps": 1} | changes),
    )


def write_recipe(recipe, path):
    """Write a recipe as TOML, without the values that are None."""

    def inline(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {inline(each)}" for key, each in value.items() if each is not None) + "}"
        return json.dumps(value)

    values = json.loads(json.dumps(to_dict(recipe)))
    lines = [f"{key} = {inline(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for section, value in values.items():
        if isinstance(value, dict):
            lines += [f"[{section}]", *(f"{key} = {inline(each)}" for key, each in value.items() if each is not None)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def start(recipe, run_dir):
    """Return the trainer of a new run in this process, on the CPU."""
    record_run(Path(run_dir), recipe)
    return make_trainer(recipe, run_dir)


def make_trainer(recipe, run_dir):
    return build_trainer(recipe, Path(run_dir), build_fabric(recipe.train.precision, "cpu"))


def resume(recipe, run_dir):
    """Return a fresh trainer that has taken over the last checkpoint of a run."""
    trainer = make_trainer(recipe, run_dir)
    trainer.resume()
    return trainer


def history(run_dir):
    """Every logged line without what depends on the clock."""
    lines = (Path(run_dir) / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name != "train/audio_seconds_per_second"}
        for line in lines
    ]


def learned(trainer):
    """Weights and codebooks by their name in a checkpoint."""
    tensors = {f"model.{name}": tensor for name, tensor in trainer.learner.codec.state_dict().items()}
    if trainer.learner.adversary is not None:
        weights = trainer.learner.adversary.discriminators.state_dict()
        tensors |= {f"discriminators.{name}": tensor for name, tensor in weights.items()}
    return tensors


def assert_close(tensors, others):
    """Sums of another order differ in the last digits, which Adam magnifies where a gradient is small."""
    for name, tensor in tensors.items():
        error = (tensor - others[name]).double().norm() / tensor.double().norm()
        assert error <= 1e-5, f"{name} differs by {error:.1e}"


# The words of codec-train for a run of seconds.
TINY_RUN = [
    *("quickstart", "--out", "run", "--device", "cpu", "--train.precision", "32-true"),
    *("--train.batch-size", "2", "--train.bypass-steps", "1", "--train.init-batches", "1"),
    *("--data.num-workers", "0", "--data.segment-seconds", "0.2", "--data.valid", "None"),
    *("--codec.latent-dim", "8", "--codec.encoder.channels", "8"),
    *("--codec.encoder.num-blocks", "1", "--codec.decoder.channels", "8", "--codec.decoder.num-blocks", "1"),
    *("--codec.quantizer.codebook-size", "16", "--codec.quantizer.codebook-dim", "4"),
]

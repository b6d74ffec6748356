import copy
import errno
import functools
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from messages import one_line
from models import tiny_codec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny_runs import make_trainer, resume, start, tiny_recipe, write_clips

import codec.inference.pretrained as pretrained_module
from codec.errors import ConfigError, ModelError, WriteError
from codec.inference.pretrained import load_codec
from codec.train.checkpoint import Trained, load_checkpoint, read_index, save_checkpoint
from codec.train.progress import Progress

FILES = {"config.json", "model.safetensors", "training.safetensors", "state.json", "checksums.json"}


new_codec = functools.cache(tiny_codec)


class Run:
    """A model, its EMA and its optimizer, which change with every step."""

    def __init__(self, decoder="harmonic_noise", seed=0, **changes):
        self.model = copy.deepcopy(new_codec(decoder, seed=seed, **changes)).requires_grad_(True)
        self.ema = copy.deepcopy(new_codec(decoder, seed=seed + 100, **changes))
        self.ema.load_state_dict(self.model.state_dict() | dict(self.ema.named_parameters()))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1)
        self.step = 0

    def advance(self):
        self.step += 1
        loss = sum(parameter.square().sum() for parameter in self.model.parameters())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for mine, theirs in zip(self.ema.parameters(), self.model.parameters(), strict=True):
                mine.lerp_(theirs, 0.5)
            for codec in (self.model, self.ema):
                codec.quantizer.codebooks.counts += 1

    def save(self, run_dir, best=False):
        parts = {"ema": self.ema, "trained": {"model": Trained(self.model, self.optimizer)}}
        return save_checkpoint(run_dir, step=self.step, counters={"score": 0.5, "seen": None}, best=best, **parts)

    def load(self, run_dir):
        parts = {"ema": self.ema, "trained": {"model": Trained(self.model, self.optimizer)}}
        return load_checkpoint(run_dir, counters=["score", "seen"], **parts)

    def state(self):
        moments = {
            f"{number}.{key}": value.clone()
            for number, state in self.optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }
        models = {"model": self.model, "ema": self.ema}
        return moments | {
            f"{role}.{name}": tensor.clone()
            for role, model in models.items()
            for name, tensor in model.state_dict().items()
        }


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, other[name]), name


def folders(run_dir):
    return sorted(path.name for path in (run_dir / "checkpoints").iterdir())


# ---- What a checkpoint holds


def test_a_checkpoint_brings_everything_back(tmp_path):
    run, other = Run(), Run(seed=1)
    for _ in range(3):
        run.advance()
    folder = run.save(tmp_path)
    assert {path.name for path in folder.iterdir()} == FILES
    assert other.load(tmp_path) == {"step": 3, "score": 0.5, "seen": None}
    assert_same(other.state(), run.state())
    run.advance(), other.advance()
    assert_same(other.state(), run.state())


def test_a_checkpoint_before_the_first_step_has_no_moments(tmp_path):
    run, other = Run(), Run(seed=1)
    run.save(tmp_path)
    other.load(tmp_path)
    assert_same(other.state(), run.state())
    assert not other.optimizer.state_dict()["state"]


def test_a_checkpoint_loads_as_the_ema_model(tmp_path):
    run = Run()
    run.advance()
    folder = run.save(tmp_path)
    for name in (folder, tmp_path):
        loaded = load_codec(name)
        for key, parameter in loaded.named_parameters():
            assert torch.equal(parameter, dict(run.ema.named_parameters())[key]), key
        assert torch.equal(loaded.quantizer.codebooks.table, run.model.quantizer.codebooks.table)


def test_the_index_names_last_previous_and_best_and_other_checkpoints_are_removed(tmp_path):
    run = Run()
    assert read_index(tmp_path) == {}
    named = []
    for best in (False, True, False, False, True, False):
        run.advance()
        run.save(tmp_path, best=best)
        named.append((read_index(tmp_path), folders(tmp_path)))
    assert named[0] == ({"last": "step-00000001"}, ["index.json", "step-00000001"])
    assert named[1] == (
        {"last": "step-00000002", "previous": "step-00000001", "best": "step-00000002"},
        ["index.json", "step-00000001", "step-00000002"],
    )
    assert named[4] == (
        {"last": "step-00000005", "previous": "step-00000004", "best": "step-00000005"},
        ["index.json", "step-00000004", "step-00000005"],
    )
    assert named[3] == (
        {"last": "step-00000004", "previous": "step-00000003", "best": "step-00000002"},
        ["index.json", "step-00000002", "step-00000003", "step-00000004"],
    )


# ---- Crashes


class Crash(BaseException):
    """The process dies here: nothing after it runs, no handler cleans up."""


class FailingDisk:
    """Counts calls that change the disk and makes one of them fail, at its start or half-way through."""

    def __init__(self, monkeypatch, error, fail_at=None):
        self.error, self.fail_at, self.calls = error, fail_at, []
        monkeypatch.setattr(pretrained_module, "save_file", self.watch(pretrained_module.save_file, self.half_a_file))
        monkeypatch.setattr(Path, "write_text", self.watch(Path.write_text, self.half_a_text))
        for name in ("rename", "replace", "unlink"):
            monkeypatch.setattr(Path, name, self.watch(getattr(Path, name)))
        monkeypatch.setattr(os, "fsync", self.watch(os.fsync))
        monkeypatch.setattr(shutil, "rmtree", self.watch(shutil.rmtree))

    def watch(self, function, half=None):
        def watched(*args, **options):
            if isinstance(self.error, Crash) and self.fail_at is not None and len(self.calls) > self.fail_at:
                return None  # the process is dead
            self.calls.append(function.__name__)
            if len(self.calls) - 1 == self.fail_at:
                if half:
                    half(function, *args)
                raise self.error
            return function(*args, **options)

        return watched

    @staticmethod
    def half_a_file(save_file, tensors, path):
        save_file(tensors, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    @staticmethod
    def half_a_text(_, path, text, **__):
        path.write_bytes(text.encode()[: len(text) // 2])


def count_of_calls(tmp_path):
    with pytest.MonkeyPatch.context() as monkeypatch:
        run = Run()
        run.save(tmp_path)
        disk = FailingDisk(monkeypatch, Crash())
        run.advance()
        run.save(tmp_path)
    assert {"save_file", "write_text", "rename", "replace", "unlink", "fsync", "rmtree"} == set(disk.calls)
    return len(disk.calls)


def test_a_crash_at_any_moment_leaves_a_checkpoint(tmp_path):
    """The run that crashes had its last checkpoint at step 2, its best at step 1, and saves step 3."""
    for moment in range(count_of_calls(tmp_path / "counted")):
        run_dir, run, other = tmp_path / str(moment), Run(), Run(seed=1)
        states = []
        for step in (1, 2, 3):
            run.advance()
            states.append(run.state())
            if step < 3:
                run.save(run_dir, best=step == 1)
        with pytest.MonkeyPatch.context() as monkeypatch:
            FailingDisk(monkeypatch, Crash(), fail_at=moment)
            with pytest.raises(Crash):
                run.save(run_dir)
        step = other.load(run_dir)["step"]
        assert step in (2, 3)
        assert_same(other.state(), states[step - 1])
        assert read_index(run_dir)["best"] == "step-00000001"
        load_codec(run_dir)
        other.advance()
        other.step = step + 1
        other.save(run_dir)  # the debris of the crash is in nobody's way
        assert {name for name in folders(run_dir) if name[0] != "."} == {"index.json", *read_index(run_dir).values()}
        assert not list(run_dir.glob("checkpoints/.step-*"))


def test_a_full_disk_is_a_write_error_and_keeps_the_last_checkpoint(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for moment in range(count_of_calls(tmp_path / "counted")):
        run_dir, run, other = tmp_path / str(moment), Run(), Run(seed=1)
        run.advance()
        run.save(run_dir)
        before = run.state()
        run.advance()
        with pytest.MonkeyPatch.context() as monkeypatch:
            disk = FailingDisk(monkeypatch, full, fail_at=moment)
            if disk_call(disk, run, run_dir) in ("rmtree", "unlink"):
                continue  # removing what is not needed may fail in silence
        assert other.load(run_dir)["step"] == 1
        assert_same(other.state(), before)
        assert not any(name.startswith(".step-00000002") for name in folders(run_dir))


def disk_call(disk, run, run_dir):
    """Save on a failing disk and return the name of the call that failed."""
    try:
        run.save(run_dir)
    except WriteError as error:
        assert re.search(one_line("write", run_dir, "No space left on device"), str(error))
    except OSError:
        assert disk.calls[disk.fail_at] == "rmtree"
    return disk.calls[disk.fail_at]


def test_an_error_of_safetensors_is_a_write_error(tmp_path, monkeypatch):
    def fail(*_):
        raise SafetensorError("Error while serializing:\nI/O error")

    monkeypatch.setattr(pretrained_module, "save_file", fail)
    with pytest.raises(WriteError, match=one_line("serializing", "I/O error")):
        Run().save(tmp_path)


def test_files_reach_the_disk_before_their_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, target: (synced.append("rename"), rename(path, target)))
    Run().save(tmp_path)
    renamed = synced.index("rename")
    assert {path.name for path in synced[renamed - 5 : renamed]} == FILES
    (index,) = synced[renamed + 1 :]
    assert index.parent.name == "checkpoints"


def test_a_step_that_the_index_lacks_is_written_again(tmp_path):
    """A crash between the folder and the index leaves a step that the resumed run reaches again."""
    run = Run()
    run.advance()
    run.save(tmp_path)
    index = (tmp_path / "checkpoints/index.json").read_bytes()
    (tmp_path / "checkpoints/step-00000002").mkdir()
    (tmp_path / "checkpoints/step-00000002/config.json").write_text("{}")
    run.advance()
    run.save(tmp_path)
    assert index != (tmp_path / "checkpoints/index.json").read_bytes()
    other = Run(seed=1)
    assert other.load(tmp_path)["step"] == 2
    assert_same(other.state(), run.state())


# ---- Damage


def flip_a_bit(content):
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


DAMAGE = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "noise": lambda content: os.urandom(1000),
    "bit": flip_a_bit,
}


def harm(path, damage):
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(DAMAGE[damage](content))


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("damage", ["missing", "folder", *DAMAGE])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, name, damage):
    run = Run()
    run.advance()
    harm(run.save(tmp_path) / name, damage)
    with pytest.raises(ModelError, match=one_line("resume", tmp_path / "checkpoints/step-00000001", "init_from")):
        Run().load(tmp_path)


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("damage", ["missing", "bit"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(tmp_path, name, damage):
    run, other = Run(), Run(seed=1)
    states = []
    for _ in range(3):
        run.advance()
        folder = run.save(tmp_path, best=run.step == 1)
        states.append(run.state())
    harm(folder / name, damage)
    with pytest.warns(UserWarning, match=r"step-00000003.*resumed from step-00000002"):
        assert other.load(tmp_path)["step"] == 2
    assert_same(other.state(), states[1])


@pytest.mark.parametrize("index", [None, "", "{", "[]", "3", "\x00\x00", '{"best": "step-1"}', '{"last": 3}'])
def test_a_missing_or_damaged_index_is_rebuilt(tmp_path, index):
    run, other = Run(), Run(seed=1)
    for _ in range(3):
        run.advance()
        run.save(tmp_path)
    path = tmp_path / "checkpoints/index.json"
    path.unlink() if index is None else path.write_text(index)
    assert read_index(tmp_path) == {"last": "step-00000003", "previous": "step-00000002"}
    assert other.load(tmp_path)["step"] == 3
    assert_same(other.state(), run.state())
    run.advance()
    run.save(tmp_path)
    assert read_index(tmp_path) == {"last": "step-00000004", "previous": "step-00000003"}


def test_an_index_that_names_what_is_not_there_is_passed_over(tmp_path):
    run, other = Run(), Run(seed=1)
    run.advance()
    run.save(tmp_path)
    (tmp_path / "checkpoints/index.json").write_text('{"last": "step-00000009"}')
    with pytest.warns(UserWarning, match=r"step-00000009.*resumed from step-00000001"):
        assert other.load(tmp_path)["step"] == 1


def write_checksums(folder):
    """Make a changed checkpoint look as if it had been written so."""
    files = [path for path in folder.iterdir() if path.name != "checksums.json"]
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / "checksums.json").write_text(json.dumps(sums))


def test_a_checkpoint_without_ema_weights_is_damaged(tmp_path):
    path = Run().save(tmp_path) / "training.safetensors"
    save_file({key: tensor for key, tensor in load_file(path).items() if not key.startswith("ema.")}, path)
    write_checksums(path.parent)
    with pytest.raises(ModelError, match=r"can't resume from .*Missing key"):
        Run().load(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", "3", "null", '{"step": 1, "score": 2}'])
def test_a_state_without_its_counters_is_damaged(tmp_path, content):
    folder = Run().save(tmp_path)
    (folder / "state.json").write_text(content)
    write_checksums(folder)
    with pytest.raises(ModelError, match=one_line("resume", tmp_path)):
        Run().load(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", "null", "{}", '{"state.json": 3}', "[" * 10_000, "\xff"])
def test_checksums_that_are_nonsense_are_damage(tmp_path, content):
    run, other = Run(), Run(seed=1)
    for _ in range(2):
        run.advance()
        folder = run.save(tmp_path)
    (folder / "checksums.json").write_text(content, encoding="latin-1")
    with pytest.warns(UserWarning, match=r"step-00000002.*resumed from step-00000001"):
        assert other.load(tmp_path)["step"] == 1


def test_a_moment_of_another_shape_is_damage(tmp_path):
    run = Run()
    run.advance()
    path = run.save(tmp_path) / "training.safetensors"
    tensors = load_file(path)
    name = next(key for key, tensor in tensors.items() if ".exp_avg." in key and tensor.ndim)
    save_file(tensors | {name: torch.zeros(1)}, path)
    write_checksums(path.parent)
    with pytest.raises(ModelError, match=one_line("resume", "exp_avg", "[1]")):
        Run().load(tmp_path)


@pytest.mark.parametrize("name", ["step", "skipped_steps", "seconds", "initialized", "best_score"])
def test_counters_that_are_nonsense_are_refused(name):
    values = Progress(step=3).to_json()
    assert Progress.from_json(values) == Progress(step=3)
    for value in ("x", [], {}, -1 if name != "best_score" else "y"):
        with pytest.raises(ConfigError, match=one_line("state", name)):
            Progress.from_json(values | {name: value})


def test_a_folder_without_checkpoint_cannot_be_resumed(tmp_path):
    with pytest.raises(ModelError, match=one_line("resume", tmp_path, "no checkpoint")):
        Run().load(tmp_path)


@pytest.mark.parametrize(("decoder", "latent_dim"), [("harmonic_noise", 10), ("upsample", 12)])
def test_another_architecture_is_refused(tmp_path, decoder, latent_dim):
    Run().save(tmp_path)
    with pytest.raises(ModelError, match=one_line("resume", tmp_path)) as error:
        Run(decoder, latent_dim=latent_dim).load(tmp_path)
    assert len(str(error.value)) < 600


# ---- Within a run


def test_a_trainer_refuses_the_run_of_another_architecture(tmp_path):
    clips = write_clips(tmp_path / "clips")
    start(tiny_recipe(clips, train__steps=3), tmp_path / "run").fit()
    other = make_trainer(tiny_recipe(clips, codec__latent_dim=10), tmp_path / "run")
    with pytest.raises(ModelError, match=one_line("resume", tmp_path / "run")):
        other.resume()


def test_a_run_can_be_resumed_after_the_disk_was_full(tmp_path, monkeypatch):
    recipe = tiny_recipe(write_clips(tmp_path / "clips"), train__steps=4, train__checkpoint_every=1)
    trainer = start(recipe, tmp_path / "run")
    save = pretrained_module.save_file

    def fill_up(tensors, path):
        if trainer.progress.step > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        save(tensors, path)

    monkeypatch.setattr(pretrained_module, "save_file", fill_up)
    with pytest.raises(WriteError, match=one_line("No space left on device")):
        trainer.fit()
    monkeypatch.undo()
    resumed = resume(recipe, tmp_path / "run")
    assert resumed.progress.step == 2
    resumed.fit()
    assert json.loads((tmp_path / "run/checkpoints/step-00000004/state.json").read_text())["step"] == 4

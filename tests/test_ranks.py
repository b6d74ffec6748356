"""Training in two processes, started by torchrun: it is the training of one, and survives the death of a process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import gaussian_runs
import pytest
import torch
import torch.distributed as dist
from messages import one_line
from safetensors.torch import load_file
from tiny_runs import (
    assert_close,
    distributed_recipe,
    history,
    learned,
    make_trainer,
    resume,
    start,
    tiny_recipe,
    write_recipe,
)

import codec.train.trainer as trainer_module
from codec.errors import ConfigError, ModelError
from codec.inference.pretrained import load_codec
from codec.train.checkpoint import read_index
from codec.train.data.batches import batches
from codec.train.engine import lost_process_reported

SCRIPT = Path(__file__).parent / "train_under_torchrun.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
RUNS = ["ema", "gradient", "adversarial", "in_parts", "to_two"]
TRAINING = "training.safetensors"


def run_under_torchrun(*words, restarts=0):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, f"--max-restarts={restarts}", SCRIPT, *words]
    return subprocess.run(
        list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )


def stop_before(trainer, last_step):
    step = trainer._step

    def step_or_stop(batch, bar):
        if trainer.progress.step == last_step:
            raise KeyboardInterrupt
        return step(batch, bar)

    trainer._step = step_or_stop
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()


@pytest.fixture(scope="module")
def two_processes(clips, tmp_path_factory):
    """Folder of the runs of two processes, by name, and of what each process found, `NAME-RANK.json`."""
    runs = tmp_path_factory.mktemp("two")
    stop_before(start(distributed_recipe(clips, "adversarial"), runs / "to_two"), 3)
    result = run_under_torchrun("all", clips, runs)
    assert result.returncode == 0, result.stderr[-2000:]
    return runs


@pytest.fixture(scope="module")
def one_process(clips, tmp_path_factory):
    """Trainers of the same runs in one process, by how their codebooks learn."""
    folder, trainers = tmp_path_factory.mktemp("one"), {}
    for update in RUNS[:3]:
        trainers[update] = start(distributed_recipe(clips, update), folder / update)
        trainers[update].num_revived = count_revived(trainers[update])
        trainers[update].fit()
    return trainers


def count_revived(trainer):
    """List of the numbers of codewords revived in each step."""
    codebooks, numbers = trainer.learner.codec.quantizer.codebooks, []
    revive = codebooks.revive

    def counted(*arguments):
        revived = revive(*arguments)
        numbers.append(int(revived.sum()))
        return revived

    codebooks.revive = counted
    return numbers


def last_tensors(run_dir, step=5):
    return load_file(run_dir / f"checkpoints/step-{step:08d}" / TRAINING)


def assert_equal(tensors, others):
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


def evidence(runs, name, rank):
    return json.loads((runs / f"{name}-{rank}.json").read_text())


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(two_processes, one_process, name):
    trainer = one_process[name if name in one_process else "adversarial"]
    assert sum(trainer.num_revived) >= 3
    assert_close(learned(trainer), last_tensors(two_processes / name))
    lines, others = history(trainer.run_dir), history(two_processes / name)
    assert [line["train/grad_norm"] for line in others] == pytest.approx(
        [line["train/grad_norm"] for line in lines], rel=1e-5
    )
    totals = [[line["loss/total"] for line in each] for each in (lines, others)]
    assert totals[1] == pytest.approx(totals[0], rel=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_codebooks_and_weights_are_bit_equal_in_all_processes(two_processes, name):
    first, second = (evidence(two_processes, name, rank)["digests"] for rank in range(2))
    assert first == second and any("codebooks" in key for key in first)


@pytest.mark.parametrize("name", RUNS)
def test_every_item_of_a_step_is_drawn_once(two_processes, name):
    """By one of the processes, in the order of one process, also after resuming."""
    shares = [evidence(two_processes, name, rank)["numbers"] for rank in range(2)]
    first = 3 if name == "to_two" else 0
    assert [mine + other for mine, other in zip(*shares, strict=True)] == [
        list(range(4 * step, 4 * step + 4)) for step in range(first, 5)
    ]


def test_only_the_first_process_writes(two_processes):
    first, second = (evidence(two_processes, RUNS[-1], rank)["written"] for rank in range(2))
    assert any(path.startswith("ema/checkpoints") for path in first) and any("history" in path for path in first)
    assert second == []


def test_one_process_goes_on_with_the_run_of_two(clips, two_processes, one_process):
    """In two parts of a batch, which need no more memory than before."""
    recipe = distributed_recipe(clips, "adversarial", train__gradient_accumulation=2)
    trainer = resume(recipe, two_processes / "to_one")
    assert trainer.progress.step == 3
    trainer.fit()
    assert_close(learned(one_process["adversarial"]), learned(trainer))


@pytest.mark.parametrize("name", gaussian_runs.DISTRIBUTED)
def test_two_processes_train_as_one_on_vectors(tmp_path, two_processes, name):
    """With EMA codebooks nothing has a gradient, and the processes only share statistics."""
    trainer = gaussian_runs.train(gaussian_runs.distributed_recipe(name), tmp_path)
    assert_close(learned(trainer), last_tensors(two_processes / name))
    totals = [history(run)[0]["loss/total"] for run in (tmp_path, two_processes / name)]
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    results = [gaussian_runs.results_of(run)["held_out_distortion"] for run in (tmp_path, two_processes / name)]
    assert results[0] == pytest.approx(results[1], rel=1e-5)


# ---- Processes that die


def test_torchrun_restarts_a_run_whose_process_was_killed(clips, tmp_path, two_processes, one_process):
    """Restarted processes resume: bit for bit the undisturbed run. Their death too ends the run, with a checkpoint."""
    recipe, run = distributed_recipe(clips, "adversarial", train__checkpoint_every=2), tmp_path / "run"
    result = run_under_torchrun("kill", write_recipe(recipe, tmp_path / "r.toml"), run, restarts=1)
    assert result.returncode != 0 and re.search("exitcode *: -9", result.stderr), result.stderr[-3000:]
    ours = re.findall("codec-train: .*", result.stderr)
    assert len(ours) == 2 and all("lost another process" in line or "terminated" in line for line in ours), ours
    assert "[rank0]: Traceback" not in result.stderr and "Terminated" not in result.stderr
    assert_equal(last_tensors(run, step=4), last_tensors(two_processes / "adversarial", step=4))
    assert history(run) == history(two_processes / "adversarial")[:4]
    load_codec(run)
    trainer = resume(recipe, run)
    trainer.fit()
    assert trainer.progress.step == 5
    assert_close(learned(one_process["adversarial"]), learned(trainer))


def test_a_process_whose_peer_is_dead_ends_and_the_first_one_saves_alone(clips, tmp_path):
    """Without torchrun, nothing ends the process that is left but its own error."""
    command = [sys.executable, SCRIPT, "lose", clips, tmp_path]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    for failing in range(2):
        run = tmp_path / str(failing)
        assert "a process fails on purpose" in (run / f"error-{failing}").read_text()
        assert (run / f"error-{1 - failing}").read_text().startswith("ModelError: lost another process")
        load_codec(run)
        trainer = resume(tiny_recipe(clips, train__steps=7), run)
        assert trainer.progress.step == 5
        trainer.fit()
        assert read_index(run)["last"] == "step-00000007"


@pytest.mark.parametrize(
    "error", [dist.DistBackendError("NCCL"), RuntimeError("[/x/gloo/tcp/pair.cc:1] reset by peer")]
)
def test_an_error_of_a_lost_process_is_one_line(error):
    with pytest.raises(ModelError, match=one_line("lost another process", "resume=True")), lost_process_reported():
        raise error


def test_other_errors_keep_their_trace():
    with pytest.raises(RuntimeError, match="out of memory"), lost_process_reported():
        raise RuntimeError("out of memory")


# ---- Starts that are refused


def test_every_process_needs_an_equal_share(clips, tmp_path):
    trainer = make_trainer(tiny_recipe(clips), tmp_path)
    with pytest.raises(ConfigError, match=one_line("batch_size", 4, "processes", 3)):
        batches(trainer.source.segments, first_step=0, last_step=1, batch_size=4, world_size=3)


def test_processes_that_found_different_checkpoints_do_not_start(clips, tmp_path, monkeypatch):
    trainer = start(tiny_recipe(clips), tmp_path)
    monkeypatch.setattr(trainer_module, "gather_rows", lambda rows: torch.cat([rows, rows + 500]))
    with pytest.raises(ConfigError, match=one_line("steps", 0, 500, "run directory")):
        trainer.fit()

"""Training with frozen parts (`train.freeze`)."""

import pytest
import torch
from messages import one_line
from tiny_runs import adversarial_changes, history, resume, start, tiny_recipe

from codec.errors import ConfigError
from codec.inference.pretrained import save_codec


@pytest.fixture(scope="module", params=["ema", "gradient"])
def model(request, clips, tmp_path_factory):
    """Folder of a trained model, and how its codebooks learned."""
    folder = tmp_path_factory.mktemp(request.param)
    recipe = tiny_recipe(clips, codec__quantizer__update=request.param, train__steps=4)
    trainer = start(recipe, folder / "run")
    trainer.fit()
    save_codec(trainer.learner.codec, folder / "model")
    return str(folder / "model"), request.param


def frozen(clips, model, run_dir, freeze=("encoder", "quantizer"), **changes):
    facts = {"train__freeze": list(freeze), "codec__quantizer__update": model[1]}
    facts |= {"codec__quantizer__dead_threshold": 0.9, "train__steps": 3}
    trainer = start(tiny_recipe(clips, **adversarial_changes(), **(facts | changes)), run_dir)
    trainer.start_from(model[0])
    return trainer


def copy_of(codec):
    return {name: tensor.clone() for name, tensor in codec.state_dict().items()}


def moved(codec, before):
    return {name for name, tensor in codec.state_dict().items() if not torch.equal(tensor, before[name])}


def test_frozen_parts_stay_the_same_and_the_decoder_learns(clips, tmp_path, model):
    trainer = frozen(clips, model, tmp_path)
    before = copy_of(trainer.learner.codec)
    trainer.fit()
    decoder = {name for name in before if name.startswith("decoder.")}
    assert moved(trainer.learner.codec, before) == moved(trainer.learner.ema, before) == decoder
    assert not any("loss/commitment" in line or "loss/codebook" in line for line in history(tmp_path))
    assert "perplexity/level_1" in history(tmp_path)[0]


def test_frozen_parts_record_no_gradient(clips, tmp_path, model):
    trainer = frozen(clips, model, tmp_path)
    inputs, plan = trainer._inputs(next(trainer._batches())), trainer._plan()
    output = trainer.learner.model(inputs.audio, quantize=plan.quantize)
    assert not output.quantizer.quantized.requires_grad and output.audio.requires_grad


def test_an_encoder_learns_to_commit_to_a_frozen_quantizer(clips, tmp_path, model):
    trainer = frozen(clips, model, tmp_path, freeze=["quantizer"])
    before = copy_of(trainer.learner.codec)
    trainer.fit()
    assert {name.split(".")[0] for name in moved(trainer.learner.codec, before)} == {"encoder", "decoder"}
    assert "loss/commitment" in history(tmp_path)[0]


def test_a_frozen_run_resumes_bit_for_bit(clips, tmp_path, model):
    whole = frozen(clips, model, tmp_path / "whole")
    whole.fit()
    part = frozen(clips, model, tmp_path / "part")
    take = part._step

    def stopped(batch, bar):
        if part.progress.step == 2:
            raise KeyboardInterrupt
        return take(batch, bar)

    part._step = stopped
    with pytest.raises(KeyboardInterrupt):
        part.fit()
    resumed = resume(part.recipe, tmp_path / "part")
    resumed.fit()
    assert not moved(resumed.learner.codec, copy_of(whole.learner.codec))
    assert not moved(resumed.learner.ema, copy_of(whole.learner.ema))


def test_freezing_needs_a_model_to_start_from(clips, tmp_path):
    trainer = start(tiny_recipe(clips, train__freeze=["encoder"]), tmp_path)
    with pytest.raises(ConfigError, match=one_line("train.freeze", "init_from")):
        trainer.fit()

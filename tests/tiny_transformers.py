"""Tiny EnCodec, DAC and Mimi of transformers with random weights and codebooks, at 8 kHz with codebooks of 16."""

import torch

RATE = 8000
SIZES = {
    "encodec": {
        "num_filters": 4,
        "hidden_size": 8,
        "upsampling_ratios": [4, 2],
        "codebook_size": 16,
        "target_bandwidths": [4.0, 16.0],
        "num_lstm_layers": 1,
    },
    "dac": {
        "encoder_hidden_size": 4,
        "downsampling_ratios": [2, 4],
        "decoder_hidden_size": 16,
        "hidden_size": 16,
        "upsampling_ratios": [4, 2],
        "n_codebooks": 3,
        "codebook_size": 16,
        "codebook_dim": 2,
    },
    "mimi": {
        "num_filters": 4,
        "hidden_size": 16,
        "upsampling_ratios": [4, 2],
        "frame_rate": 500,
        "num_quantizers": 4,
        "codebook_size": 16,
        "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 16,
        "upsample_groups": 16,
    },
}
FRAMES = {"encodec": (4, 8), "dac": (3, 8), "mimi": (4, 16)}
"""Levels and samples of a frame."""


def save_tiny(family, folder, **changes):
    """Write a model of a family into `folder` by `save_pretrained`, and return it."""
    import transformers  # late: it takes seconds, and may be missing

    kind = family.capitalize()
    config = getattr(transformers, f"{kind}Config")(**{**SIZES[family], "sampling_rate": RATE, **changes})
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = getattr(transformers, f"{kind}Model")(config).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("embed", "embed_sum", "codebook.weight")):  # zeros in a new model
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    model.save_pretrained(folder)
    return model

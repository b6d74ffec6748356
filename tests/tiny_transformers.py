"""Tiny codecs of transformers with random weights and codebooks, most of them at 8 kHz with codebooks of 16."""

import inspect

import torch

RATE = 8000
HUBERT = {
    "model_type": "hubert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8] * 7,
    "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
XCODEC = {
    "target_bandwidths": [0.4, 0.8],
    "codebook_size": 16,
    "codebook_dim": 24,
    "acoustic_model_config": {
        "model_type": "dac",
        "encoder_hidden_size": 2,
        "downsampling_ratios": [8, 5, 4, 2],
        "decoder_hidden_size": 16,
        "hidden_size": 8,
    },
    "semantic_model_config": HUBERT,
}
SIZES = {
    "encodec": {
        "num_filters": 4,
        "hidden_size": 8,
        "upsampling_ratios": [4, 2],
        "codebook_size": 16,
        "target_bandwidths": [4.0, 16.0],
        "num_lstm_layers": 1,
        "sampling_rate": RATE,
    },
    "dac": {
        "encoder_hidden_size": 4,
        "downsampling_ratios": [2, 4],
        "decoder_hidden_size": 16,
        "n_codebooks": 3,
        "codebook_size": 16,
        "codebook_dim": 2,
        "sampling_rate": RATE,
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
        "sampling_rate": RATE,
    },
    "wavtokenizer": {
        "num_filters": 4,
        "upsampling_ratios": [4, 2],
        "hidden_size": 8,
        "codebook_size": 16,
        "codebook_dim": 8,
        "num_lstm_layers": 1,
        "decoder_hidden_size": 16,
        "decoder_intermediate_size": 16,
        "decoder_num_layers": 1,
        "decoder_attention_num_groups": 4,
        "sampling_rate": RATE,
    },
    "xcodec": XCODEC,  # its convolutions and those of HuBERT fix the rate
    "higgs_audio_v2_tokenizer": XCODEC
    | {
        "target_bandwidths": [0.2, 0.4],
        "acoustic_model_config": {
            **XCODEC["acoustic_model_config"],
            "downsampling_ratios": [8, 5, 4, 2, 3],
            "upsampling_ratios": [8, 5, 4, 2, 3],
            "decoder_hidden_size": 32,
        },
    },
    "xcodec2": {
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "encoder_hidden_size": 2,
        "quantization_dim": 80,
        "semantic_model_config": {
            "model_type": "wav2vec2-bert",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
    },
}
KINDS = {
    "encodec": "Encodec",
    "dac": "Dac",
    "mimi": "Mimi",
    "wavtokenizer": "WavTokenizer",
    "xcodec": "Xcodec",
    "higgs_audio_v2_tokenizer": "HiggsAudioV2Tokenizer",
    "xcodec2": "Xcodec2",
}
"""Families by their names in the names of the classes."""
FRAMES = {
    "encodec": (4, 8),
    "dac": (3, 8),
    "mimi": (4, 16),
    "wavtokenizer": (1, 8),
    "xcodec": (4, 320),
    "higgs_audio_v2_tokenizer": (4, 960),
    "xcodec2": (1, 320),
}
"""Levels and samples of a frame."""


def save_tiny(family, folder, **changes):
    """Write a model of a family into `folder` by `save_pretrained`, and return it."""
    import transformers  # late: it takes seconds, and may be missing

    config = getattr(transformers, f"{KINDS[family]}Config")(**SIZES[family] | changes)
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = getattr(transformers, f"{KINDS[family]}Model")(config).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith(("embed", "embed_sum", "codebook.weight")):  # zeros in a new model
            tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    with torch.no_grad():  # for more than one code
        audio = 0.3 * torch.randn(1, 1, 8 * 16, generator=generator)
        if family == "wavtokenizer":
            model.encoder_model.quantizer.codebook.embed.copy_(model.encoder_model.encoder(audio)[0].T)
        if family == "encodec":
            model.quantizer.layers[0].codebook.embed.copy_(model.encoder(audio)[0].T)
        if family == "xcodec2":
            model.quantizer.project_in.weight.mul_(10_000)
    model.save_pretrained(folder)
    return model


EXTRACTORS = {
    "encodec": "Encodec",
    "dac": "Dac",
    "mimi": "Encodec",
    "wavtokenizer": "WavTokenizer",
    "xcodec": "Dac",
    "higgs_audio_v2_tokenizer": "Dac",
    "xcodec2": "Xcodec2",
}
"""Feature extractors of the families by their names in the names of the classes."""


def their_codes(family, model, audios):
    """Codes of recordings `[T]`, `[B, K, F]`, by the feature extractor and the model of the library, in one batch."""
    import transformers  # late: it takes seconds, and may be missing

    levels, hop_length = FRAMES[family]
    rate = getattr(model.config, "sampling_rate", None) or model.config.sample_rate
    how = {} if EXTRACTORS[family] == "Encodec" else {"hop_length": hop_length}
    extractor = getattr(transformers, f"{EXTRACTORS[family]}FeatureExtractor")(sampling_rate=rate, **how)
    inputs = extractor([audio.numpy() for audio in audios], sampling_rate=rate, return_tensors="pt")
    known = inspect.signature(model.encode).parameters
    extra = {"bandwidth": max(model.config.target_bandwidths)} if family == "encodec" else {}
    with torch.no_grad():
        codes = model.encode(**{name: value for name, value in inputs.items() if name in known}, **extra).audio_codes
    return codes.reshape(len(audios), levels, -1).long()

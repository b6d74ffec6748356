"""A codec that is not ours and takes recordings as a whole: its codes change if it is given blocks, or padding."""

import torch

from codec.model.audio_codec import AudioCodec


class ForeignCodec(AudioCodec):
    """Level 1 is the mean of a frame in 16 steps, level 2 its number counted from the end, modulo 16."""

    def __init__(self):
        super().__init__(
            sample_rate=8000, hop_length=10, delay=0, num_quantizers=2, codebook_size=16, identity=bytes(range(32))
        )
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.calls = []

    def encode(self, audio, num_quantizers=None, *, beam=1):
        self.check_audio(audio)
        self.check_num_quantizers(num_quantizers)
        self.calls.append(tuple(audio.shape))
        means = self.pad(audio).unflatten(-1, (-1, 10)).mean(dim=-1)
        level = ((means.clamp(-1, 1) + 1) * 7.5).round().long()
        number = torch.arange(means.shape[-1]).flip(-1).expand_as(level) % 16
        return torch.cat([level, number], dim=1)[:, :num_quantizers]

    @torch.inference_mode()
    def decode(self, codes, num_samples=None):
        self.check_codes(codes)
        num_samples = self.check_num_samples(codes, num_samples)
        return (codes[:, :1].float() / 7.5 - 1).repeat_interleave(10, dim=-1)[..., :num_samples]

    def describe(self):
        return {"kind": "foreign"}

"""Recordings that are coded as a whole: by a codec of another library, which has no streams.

Such a codec may look at all of a recording (attention, recurrent layers, padding by reflection), so blocks would give
other codes than the codec itself. Its memory grows with the length: what is too long is refused, never cut.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from codec.errors import AudioError, BitstreamError
from codec.model.audio_codec import AudioCodec

MAX_WHOLE_S = 300.0
"""Longest recording (s), all channels together: EnCodec takes 16 MB a second, Mimi 29 MB."""


def encode_whole(codec: AudioCodec, blocks: Iterable[Tensor], num_quantizers: int | None, *, beam: int) -> Tensor:
    """Encode a recording, given in blocks `[C, n]` at the model's rate, in one pass; the channels are a batch.

    Returns:
        Codes `[C, K, F]`.

    Raises:
        AudioError: It is longer than `MAX_WHOLE_S`, or not to be encoded.
    """
    held: list[Tensor] = []
    num_samples = 0
    for block in blocks:
        held.append(block)
        num_samples += block.numel()
        if num_samples > MAX_WHOLE_S * codec.sample_rate:
            raise AudioError(
                f"it is longer than {MAX_WHOLE_S:g} s, all channels together, and this model takes a recording as a "
                "whole: cut it into shorter files"
            )
    return codec.encode(torch.cat(held, dim=-1)[:, None].to(codec.device), num_quantizers, beam=beam)


def decode_whole(codec: AudioCodec, pieces: Iterable[tuple[Tensor, bool]], num_samples: int) -> Tensor:
    """Decode the codes of a recording in one pass.

    Args:
        codec: The model that made the codes.
        pieces: Codes `[C, K, f]`, and whether their frames are lost; lost frames become silence.
        num_samples: Length at the model's rate.

    Returns:
        Audio `[C, num_samples]`, on the CPU.

    Raises:
        BitstreamError: It is longer than `MAX_WHOLE_S`, or the codes are not of this model.
    """
    held: list[Tensor] = []
    silent: list[tuple[int, int]] = []
    position = 0
    for codes, lost in pieces:
        if num_samples * len(codes) > MAX_WHOLE_S * codec.sample_rate:
            raise BitstreamError(
                f"it decodes to more than {MAX_WHOLE_S:g} s, all channels together, and this model decodes a recording "
                "as a whole"
            )
        held.append(codes)
        stop = position + codes.shape[2] * codec.hop_length
        silent += [(position, stop)] if lost else []
        position = stop
    audio = codec.decode(torch.cat(held, dim=-1).to(codec.device), num_samples)[:, 0].cpu()
    audio = audio.clone() if silent else audio  # the codec made it in inference mode, where it may not be changed
    for start, stop in silent:
        audio[:, max(start - codec.delay, 0) : max(stop - codec.delay, 0)] = 0
    return audio

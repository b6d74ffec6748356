"""Verify a tokenised corpus: read everything that was written, and compare a sample with fresh codes."""

import heapq
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from codec.bitstream import Bitstream
from codec.corpus.outputs import Output
from codec.corpus.sources import OutageError, Source, audio_file
from codec.corpus.tokenizer import Settings
from codec.errors import CodecError
from codec.inference.batching import load_recording
from codec.inference.compression import compress_source
from codec.model.audio_codec import AudioCodec
from codec.model.codec import Codec
from codec.onnx.check import MAX_DIFFERENT, NEAR_TIE, tie_margin

SAMPLE = 20
"""Recordings that are encoded again."""
LONG_S = 600.0
"""Longer recordings (s) are in the sample only where there are not enough others."""


class Verification(NamedTuple):
    """What verifying found."""

    num_rows: int
    """Recordings that were read, intact."""
    seconds: float
    """Their audio (s)."""
    num_compared: int
    """Those that were encoded again."""
    problems: list[str]
    """All that is wrong, one line each."""


def verify(
    output: Output, sources: Sequence[Source], bad: Collection[str], codec: AudioCodec, settings: Settings
) -> Iterator[Verification]:
    """Verify an output; yields what is known so far after each recording, and at last all.

    Every checksum, shape and code is checked, and that no recording is there twice. With `sources`, none may be missing
    but those known to be bad, and a sample is encoded again, file by file.

    Args:
        output: What a run has written.
        sources: Its corpus; empty if only what was written is to be checked.
        bad: Names of recordings that failed.
        codec: The model in its mode, on its device.
        settings: Of the run.
    """
    problems: list[str] = []
    seen: set[str] = set()
    sample: list[tuple[tuple[bool, int], str, Bitstream]] = []  # a heap: the first is the next to be dropped
    seconds = 0.0
    for row in output.rows():
        if isinstance(row, CodecError):
            problems.append(str(row))
            continue
        if row.path in seen:
            problems.append(f"{row.path} is there twice")
        seen.add(row.path)
        duration = row.bitstream.duration_s
        seconds += duration
        key = (duration <= LONG_S, -zlib.crc32(row.path.encode("utf-8", "surrogateescape")))
        add = heapq.heappush if len(sample) < SAMPLE else heapq.heappushpop
        add(sample, (key, row.path, row.bitstream))
        yield Verification(len(seen), seconds, 0, problems)
    places = {source.name: source for source in sources}
    if sources:
        problems += [f"{name} is missing" for name in places if name not in seen and name not in bad]
        problems += [f"{name} is not in the corpus" for name in sorted(seen - places.keys())]
    chosen = [(places[name], bitstream) for _, name, bitstream in sample if name in places]
    for number, (source, bitstream) in enumerate(chosen, start=1):
        problem = compare(codec, source, bitstream, settings)
        problems += [f"{source.name} {problem}"] if problem else []
        yield Verification(len(seen), seconds, number, problems)
    yield Verification(len(seen), seconds, len(chosen), problems)


@torch.inference_mode()
def compare(codec: AudioCodec, source: Source, stored: Bitstream, settings: Settings) -> str:
    """Encode a recording by itself and compare it with stored codes; says what differs, or nothing.

    Codes may differ at near-ties of codewords, see `tie_margin` of `codec.onnx.check`.
    """
    try:
        with audio_file(source) as path:
            fresh = compress_source(codec, path, num_quantizers=settings.num_quantizers, beam=settings.beam)
            audio = load_recording(path, codec.sample_rate).audio
    except (CodecError, OutageError) as error:
        return f"can't be encoded again: {error}"
    if fresh.codes.shape != stored.codes.shape or fresh.header.num_samples != stored.header.num_samples:
        return f"has codes {list(stored.codes.shape)}, but its audio gives {list(fresh.codes.shape)}"
    share = float((fresh.codes != stored.codes).any(axis=1).mean())
    if share == 0:
        return ""
    margin = 0.0
    if isinstance(codec, Codec) and settings.mode != "bf16":  # of others the margin of a choice is not known
        padded = codec.pad(audio[:, None].to(codec.device))
        codes = [torch.from_numpy(np.ascontiguousarray(each.codes)).to(codec.device) for each in (fresh, stored)]
        margin = tie_margin(codec, padded, codes[0], codes[1], beam=settings.beam)
    if share > MAX_DIFFERENT or margin > NEAR_TIE:
        return f"has other codes than its audio gives, in {share:.1%} of its frames"
    return ""

"""All training audio in the memory of the training device: decoded once, cut by index.

A segment has the same file, start and gain as in `codec.train.data.segments`. Samples are kept in 16 bits: 16-bit files
at the model's sample rate give equal batches, other files batches equal up to rounding. A file of another sample rate
is resampled as a whole, so a segment may start half a sample off, and its edges are filtered with the audio beyond
them. Compressed files differ slightly, because some decoders give other samples when they start within the file.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codec.audio.file import AudioInfo, load_audio
from codec.audio.headers import joined, read_headers
from codec.audio.resampling import resample
from codec.errors import AudioError, ConfigError
from codec.progress import progress_bar
from codec.train.data.batches import check_share
from codec.train.data.segments import Batch, Segments
from codec.train.engine import to_device

FULL_SCALE = 32768.0  # of 16-bit samples
MAX_SHARE = 0.8  # share of the free memory that audio may take; the model needs some too


class AudioInMemory:
    """Random segments of audio that is read by the constructor.

    Args:
        segments: Segments by number.
        device: Device that keeps and cuts the audio.
        seed: Seed of the batches for initialisation.

    Raises:
        ConfigError: The audio does not fit.
        AudioError: Files can't be read; one error for all.
    """

    unit = "audio_seconds"
    num_skipped = 0  # all files were read

    def __init__(self, segments: Segments, *, device: torch.device, seed: int) -> None:
        self.segments = segments
        self.device = device
        self.seed = seed
        self.item_size = segments.segment_samples / segments.sample_rate
        self.infos = read_headers(segments.paths)
        self.lengths = [-(-info.num_samples * segments.sample_rate // info.sample_rate) for info in self.infos]
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)]).tolist()
        check_fits(2 * self.offsets[-1], device)
        self.scales = np.ones(len(self.lengths))  # amplitude of full scale; above 1 for float files beyond [-1, 1]
        self.samples = self._read().to(device)

    def _read(self) -> Tensor:
        samples = torch.empty(self.offsets[-1], dtype=torch.int16)
        errors = []
        progress = progress_bar(total=len(self.infos), desc="reading audio into memory", unit="file")
        # In parallel: the GPU is idle until all audio is read.
        with progress, ThreadPoolExecutor(torch.get_num_threads()) as threads:
            found = threads.map(self._read_file, self.segments.paths, self.infos)
            for number, outcome in enumerate(found):
                progress.update()
                if isinstance(outcome, AudioError):
                    errors.append(outcome)
                else:
                    samples[self.offsets[number] : self.offsets[number + 1]], self.scales[number] = outcome
        if errors:
            raise joined(errors)
        return samples

    def _read_file(self, path: Path, info: AudioInfo) -> tuple[Tensor, float] | AudioError:
        """Samples of a file, int16 `[T]`, and the amplitude of full scale."""
        try:
            audio = load_audio(path)[0].mean(dim=0)
        except AudioError as error:
            return error
        if len(audio) != info.num_samples:  # MP3: the length is an estimate, or the file is truncated
            return AudioError(f"{path} holds {len(audio)} samples, not {info.num_samples}; convert it to .flac")
        audio = resample(audio, info.sample_rate, self.segments.sample_rate)
        scale = max(1.0, float(audio.abs().max()))
        return (audio * (FULL_SCALE / scale)).round().clamp(-FULL_SCALE, FULL_SCALE - 1).short(), scale

    def steps_per_epoch(self, batch_size: int) -> int | None:
        """None: segments are drawn at random."""
        return None

    def batches(
        self, *, first_step: int, last_step: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Batches of the steps `first_step` .. `last_step` - 1, this rank's share of each; see `batches.batches`."""
        share = check_share(batch_size, world_size)
        return self._batches(self.segments, range(first_step, last_step), batch_size, rank * share, share)

    def initial_batches(self, num_batches: int, *, batch_size: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Batches drawn for the initialisation alone, the same as those of `AudioSource`."""
        share = check_share(batch_size, world_size)
        steps = range(rank * num_batches, (rank + 1) * num_batches)
        return self._batches(self.segments.reseeded(self.seed, 1), steps, share, 0, share)

    def _batches(self, segments: Segments, steps: range, stride: int, first: int, count: int) -> Iterator[Batch]:
        for step in steps:
            start = step * stride + first
            yield self._cut(segments, range(start, start + count))

    def _cut(self, segments: Segments, numbers: range) -> Batch:
        """Cut the items of these numbers: the host computes where they are, the device reads them."""
        rows = [self._place(segments, number) for number in numbers]
        # One copy to the device: float64 holds every index exactly.
        starts, lengths, scales, gains = to_device(torch.tensor(rows, dtype=torch.float64), self.device).T[:, :, None]
        time = torch.arange(segments.segment_samples, device=self.device)
        index = (starts.long() + time).clamp_max(len(self.samples) - 1)
        audio = self.samples[index].float() * (scales / FULL_SCALE).float()
        audio = audio.masked_fill(time >= lengths, 0.0)
        peak = audio.abs().amax(dim=1, keepdim=True).double()
        audio = audio * torch.minimum(gains, 1.0 / peak.clamp_min(1e-9)).float()
        return Batch(audio[:, None], lengths[:, 0].long(), torch.tensor(list(numbers)))

    def _place(self, segments: Segments, number: int) -> tuple[float, float, float, float]:
        """First sample of an item in `samples`, its number of real samples, the scale of its file, and its gain."""
        draw = segments.draw(number)
        info, available = self.infos[draw.file], self.lengths[draw.file]
        length = min(segments.segment_samples, available)
        start = segments.start_of(draw, info) * segments.sample_rate / info.sample_rate
        start = min(math.floor(start + 0.5), available - length)
        return self.offsets[draw.file] + start, length, self.scales[draw.file], 10.0 ** (draw.gain_db / 20)


def check_fits(num_bytes: int, device: torch.device) -> None:
    """Refuse audio that does not fit into the memory of the device and of the host that reads it.

    Raises:
        ConfigError: It does not fit.
    """
    places = {"the main memory": free_bytes()}
    if device.type == "cuda":
        places[str(device)] = torch.cuda.mem_get_info(device)[0]
    for place, free in places.items():
        if num_bytes > MAX_SHARE * free:
            raise ConfigError(
                f"data.in_memory needs {num_bytes / 2**20:.0f} MiB and {place} has {free / 2**20:.0f} MiB left: "
                f"set it to false, or train on fewer files"
            )


def free_bytes() -> float:
    """Main memory (bytes) available without swapping; infinite if the system is not Linux."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return 1024.0 * int(facts["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf

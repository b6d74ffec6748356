"""All training audio in memory, on the training device: decoded once, cut by index.

The segments are those of the files (`codec.train.data.segments.Segments`): the same file, place and gain for the same
seed and number. Audio is kept in 16 bits, so files of 16 bits at the model's rate give equal batches, and others to a
rounding step of their peak. Where a file has another rate it is resampled as a whole: a segment begins at the sample
nearest to its place, up to half a sample off, and its edges know what lies beyond them. Compressed files differ by the
little that their decoders do when they start in the middle.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from codec.audio.file import AudioInfo, load_audio, read_info
from codec.audio.resampling import resample
from codec.errors import ConfigError
from codec.train.data.segments import Batch, Segments, check_share
from codec.train.engine import to_device

FULL_SCALE = 32768.0  # of 16-bit samples
SPARE = 0.8  # share of the free memory that audio may take: the model wants some too


class AudioInMemory:
    """A source of random segments of audio that was read when it was made.

    Args:
        segments: Which segment each item is.
        device: Where the audio is kept and cut.
        seed: Of the batches for initialisation.

    Raises:
        ConfigError: The audio does not fit.
        AudioError: A file can't be read.
    """

    unit = "audio_seconds"

    def __init__(self, segments: Segments, *, device: torch.device, seed: int) -> None:
        self.segments = segments
        self.device = device
        self.seed = seed
        self.item_size = segments.segment_samples / segments.sample_rate
        self.infos = [read_info(path) for path in tqdm(segments.paths, desc="looking at files", unit="file", delay=2)]
        self.lengths = [-(-info.num_samples * segments.sample_rate // info.sample_rate) for info in self.infos]
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)]).tolist()
        check_fits(2 * self.offsets[-1], device)
        self.scales = np.ones(len(self.lengths))  # what a sample of full scale stands for; float files may hold more
        self.samples = self._read().to(device)

    def _read(self) -> Tensor:
        samples = torch.empty(self.offsets[-1], dtype=torch.int16)
        progress = tqdm(total=len(self.infos), desc="reading audio into memory", unit="file")
        # Decoders run beside each other; a lent GPU waits meanwhile.
        with progress, ThreadPoolExecutor(torch.get_num_threads()) as threads:
            found = threads.map(self._read_file, self.segments.paths, self.infos)
            for number, (audio, scale) in enumerate(found):
                samples[self.offsets[number] : self.offsets[number + 1]] = audio
                self.scales[number] = scale
                progress.update()
        return samples

    def _read_file(self, path: Path, info: AudioInfo) -> tuple[Tensor, float]:
        """Samples of a file, int16, and what one of full scale stands for."""
        audio = resample(load_audio(path)[0].mean(dim=0), info.sample_rate, self.segments.sample_rate)
        scale = max(1.0, float(audio.abs().max()))
        return (audio * (FULL_SCALE / scale)).round().clamp(-FULL_SCALE, FULL_SCALE - 1).short(), scale

    def steps_per_epoch(self, batch_size: int) -> int | None:
        """None: every step draws anew."""
        return None

    def batches(
        self, *, first_step: int, last_step: int, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[Batch]:
        """Batches of the steps `first_step` .. `last_step` - 1, this rank's share of each; see `data.batches`."""
        share = check_share(batch_size, world_size)
        return self._batches(self.segments, range(first_step, last_step), batch_size, rank * share, share)

    def initial_batches(self, num_batches: int, *, batch_size: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Batches drawn for the initialisation alone, those of `AudioSource`."""
        share = check_share(batch_size, world_size)
        steps = range(rank * num_batches, (rank + 1) * num_batches)
        return self._batches(self.segments.reseeded(self.seed, 1), steps, share, 0, share)

    def _batches(self, segments: Segments, steps: range, stride: int, first: int, count: int) -> Iterator[Batch]:
        for step in steps:
            start = step * stride + first
            yield self._cut(segments, range(start, start + count))

    def _cut(self, segments: Segments, numbers: range) -> Batch:
        """The items of these numbers; which they are is computed here, what they hold on the device."""
        rows = [self._place(segments, number) for number in numbers]
        # One copy: float64 holds every place exactly.
        starts, lengths, scales, gains = to_device(torch.tensor(rows, dtype=torch.float64), self.device).T[:, :, None]
        time = torch.arange(segments.segment_samples, device=self.device)
        index = (starts.long() + time).clamp_max(len(self.samples) - 1)
        audio = self.samples[index].float() * (scales / FULL_SCALE).float()
        audio = audio.masked_fill(time >= lengths, 0.0)
        peak = audio.abs().amax(dim=1, keepdim=True).double()
        audio = audio * torch.minimum(gains, 1.0 / peak.clamp_min(1e-9)).float()
        return Batch(audio[:, None], lengths[:, 0].long(), torch.tensor(list(numbers)))

    def _place(self, segments: Segments, number: int) -> tuple[float, float, float, float]:
        """Where an item begins in `samples`, its real samples, the scale of its file, and its gain."""
        draw = segments.draw(number)
        info, available = self.infos[draw.file], self.lengths[draw.file]
        length = min(segments.segment_samples, available)
        start = segments.start_of(draw, info) * segments.sample_rate / info.sample_rate
        start = min(math.floor(start + 0.5), available - length)
        return self.offsets[draw.file] + start, length, self.scales[draw.file], 10.0 ** (draw.gain_db / 20)


def check_fits(num_bytes: int, device: torch.device) -> None:
    """Refuse audio that would fill the memory of a device, and of the host that reads it.

    Raises:
        ConfigError: It does not fit.
    """
    places = {"the main memory": free_bytes()}
    if device.type == "cuda":
        places[str(device)] = torch.cuda.mem_get_info(device)[0]
    for place, free in places.items():
        if num_bytes > SPARE * free:
            raise ConfigError(
                f"data.in_memory needs {num_bytes / 2**20:.0f} MiB and {place} has {free / 2**20:.0f} MiB left: "
                f"set it to false, or train on fewer files"
            )


def free_bytes() -> float:
    """Main memory that can be had without swapping; unlimited where the system does not say (not Linux)."""
    try:
        facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return 1024.0 * int(facts["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf

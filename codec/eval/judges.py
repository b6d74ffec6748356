"""Judges that no loss of ours is modelled on: networks that others trained on what people said of other audio.

dnsmos               how good speech sounds, from the decoded audio alone
speaker_similarity   whether it is still the same voice

Both read the weights out of an installed package and run them here, on one thread, without importing it: speechmos
would need librosa and requests for a model that takes plain samples, and resemblyzer would need librosa and webrtcvad,
which imports pkg_resources, gone from setuptools 82 on. The weights are loaded once a process.
"""

import functools
import importlib.util
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codec.errors import ConfigError, require
from codec.eval.pairs import SPEECH_RATE, Samples, speech_pair

JUDGE_MIN_S = 1.6  # of both: one window of the speaker network; a much shorter clip is little to judge a voice by

DNSMOS_WINDOW_S = 9.01
DNSMOS_OVERALL = (-0.06766283, 1.11546468, 0.04602535)
"""Polynomial from the network's output to the scale of the listeners, highest power first: that of speechmos."""

# Of the speaker network; frames of 10 ms.
NUM_MELS, MEL_FRAME, MEL_STEP = 40, 400, 160
WINDOW_FRAMES, WINDOW_STEP = 160, 77
MIN_COVERAGE = 0.75  # of the last window
QUIETEST_DB = -30.0  # what is quieter is raised to this before it is embedded


def dnsmos(audio: Samples, target: Samples, sample_rate: int) -> float:
    """Estimate how people would rate the decoded speech, 1 to 5; higher is better. The original is not compared.

    DNSMOS P.835, overall quality (Reddy, Gopal, Cutler, ICASSP 2022), by the network in the package speechmos (MIT),
    which was trained on the ratings that a crowd gave to noisy speech and to what noise suppressors made of it (DNS
    Challenge, 16 kHz). It does not know what was said or by whom, and forgives what sounds clean. Clips of ours get 2.4
    to 3.3 before they are coded, so compare; it marks quiet speech down, by one point at -60 dB. Windows of 9.01 s with
    a step of 1 s are averaged; a shorter clip is repeated, as in the package. Samples beyond full scale are clipped, as
    in a file.

    Args:
        audio: Decoded samples `[T]` in [-1, 1].
        target: Original samples `[T]`.
        sample_rate: Of both (Hz).

    Returns:
        Mean opinion score; nan where the clip is shorter than 1.6 s or the original is silent.

    Raises:
        AudioError: The two are not of one shape `[T]` with T >= 1.
        ConfigError: speechmos or onnxruntime is not installed.
    """
    network = _load_dnsmos()
    ours, theirs = speech_pair(audio, target, sample_rate)
    if not _can_be_judged(theirs):
        return math.nan
    samples = ours.clamp(-1, 1).float().numpy()
    window = int(DNSMOS_WINDOW_S * SPEECH_RATE)
    while len(samples) < window:
        samples = np.append(samples, samples)
    num_windows = int(len(samples) // SPEECH_RATE - DNSMOS_WINDOW_S) + 1
    raw = [
        network.run(None, {"input_1": samples[None, first : first + window]})[0][0][2]
        for first in _dnsmos_starts(num_windows, window)
    ]
    return float(np.mean(np.polyval(DNSMOS_OVERALL, raw)))


def speaker_similarity(audio: Samples, target: Samples, sample_rate: int) -> float:
    """Measure how much the decoded voice is that of the original, 0 to 1; higher is better.

    Cosine of two speaker embeddings of the GE2E network (Wan et al., arXiv:1710.10467) in the package resemblyzer
    (Apache-2.0), which was trained to tell speakers apart; on which speech the package does not say, only that it works
    best on English. 1 is the same voice to it; clips of two speakers of ours come to 0.56 to 0.89, so compare. As in
    the package, audio below -30 dB (mean square) is raised to it, and windows of 1.6 s are averaged; unlike there,
    pauses are not cut out, so that both signals have the same windows.

    Args:
        audio: Decoded samples `[T]`.
        target: Original samples `[T]`.
        sample_rate: Of both (Hz).

    Returns:
        Similarity; 0 where the decoded audio is silent; nan where the clip is shorter than 1.6 s or the original is
        silent.

    Raises:
        AudioError: The two are not of one shape `[T]` with T >= 1.
        ConfigError: resemblyzer is not installed.
    """
    network = _load_speaker()
    ours, theirs = speech_pair(audio, target, sample_rate)
    if not _can_be_judged(theirs):
        return math.nan
    if _is_constant(ours):
        return 0.0
    return float(torch.dot(network.embed(ours), network.embed(theirs)))


class SpeakerNetwork(nn.Module):
    """Embeds a voice: mel powers of windows of 1.6 s through three LSTM layers to one vector of length 1.

    The names of its parameters are those of the weights in resemblyzer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(NUM_MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.filterbank = _slaney_filterbank()

    @torch.no_grad()
    def embed(self, samples: Tensor) -> Tensor:
        """Samples float64 `[T]` at 16 kHz, not all equal, to a vector `[256]` of length 1, none of it negative."""
        level_db = 10 * math.log10(float(samples.square().mean()))
        samples = samples * 10 ** (max(0.0, QUIETEST_DB - level_db) / 20)
        starts = _window_starts(len(samples))
        missing = (starts[-1] + WINDOW_FRAMES) * MEL_STEP - len(samples)
        mel = self._mel(nn.functional.pad(samples, (0, max(0, missing))))
        windows = torch.stack([mel[first : first + WINDOW_FRAMES] for first in starts])
        _, (hidden, _) = self.lstm(windows)
        embeddings = nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=-1)
        return nn.functional.normalize(embeddings.mean(dim=0), dim=-1)

    def _mel(self, samples: Tensor) -> Tensor:
        """Mel powers `[frames, 40]`: periodic Hann frames of 25 ms around every 10 ms."""
        padded = nn.functional.pad(samples, (MEL_FRAME // 2, MEL_FRAME // 2))
        frames = padded.unfold(0, MEL_FRAME, MEL_STEP) * torch.hann_window(MEL_FRAME, dtype=torch.float64)
        return torch.matmul(torch.fft.rfft(frames).abs().square(), self.filterbank).float()


def _dnsmos_starts(num_windows: int, window: int) -> list[int]:
    """First sample of each window, one a second; those that the package skips are skipped.

    It multiplies seconds by the rate, and where that comes out a rounding error below the whole number of samples, it
    takes the window for too short. To be equal to its scores, so do we.
    """
    ends = [int((number + DNSMOS_WINDOW_S) * SPEECH_RATE) for number in range(num_windows)]
    starts = [number * SPEECH_RATE for number in range(num_windows)]
    return [first for first, end in zip(starts, ends, strict=True) if end - first >= window]


def _window_starts(num_samples: int) -> list[int]:
    """First frame of each window; the last window may reach beyond the end, but is there if three quarters do not."""
    num_frames = -(-(num_samples + 1) // MEL_STEP)
    starts = list(range(0, max(1, num_frames - WINDOW_FRAMES + WINDOW_STEP + 1), WINDOW_STEP))
    coverage = (num_samples - starts[-1] * MEL_STEP) / (WINDOW_FRAMES * MEL_STEP)
    return starts[:-1] if coverage < MIN_COVERAGE and len(starts) > 1 else starts


def _slaney_filterbank() -> Tensor:
    """Triangles of equal area on the mel scale of Slaney's Auditory Toolbox, float64 `[201, 40]`: those of librosa."""
    from torchaudio.functional import melscale_fbanks  # late: it takes a second

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty filter: librosa's is empty too
        bank: Tensor = melscale_fbanks(
            MEL_FRAME // 2 + 1, 0.0, SPEECH_RATE / 2, NUM_MELS, SPEECH_RATE, norm="slaney", mel_scale="slaney"
        )
    return bank.double()


def _can_be_judged(target: Tensor) -> bool:
    return len(target) >= JUDGE_MIN_S * SPEECH_RATE and not _is_constant(target)


def _is_constant(samples: Tensor) -> bool:
    return bool(samples.amax() == samples.amin())


@functools.cache
def _load_dnsmos() -> Any:
    """The network as a session of ONNX Runtime; one thread, so that processes side by side give the same."""
    runtime = require("onnxruntime", "eval")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = _packaged("speechmos", "dnsmos_models/sig_bak_ovr.onnx", "pip install speechmos")
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@functools.cache
def _load_speaker() -> SpeakerNetwork:
    path = _packaged("resemblyzer", "pretrained.pt", "pip install --no-deps resemblyzer")
    weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    network = SpeakerNetwork()
    network.load_state_dict({name: weights[name] for name in network.state_dict()})
    return network.eval().requires_grad_(False)


def _packaged(package: str, file: str, command: str) -> Path:
    """Where a file of a package lies, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{package} is not installed (extra 'eval'): run  {command}")
    return Path(spec.submodule_search_locations[0], file)

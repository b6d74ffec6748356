"""Judges: metrics by pretrained networks of others, which none of our losses imitates.

dnsmos               quality of the speech, from the decoded audio alone
speaker_similarity   similarity of the decoded and the original voice

The weights come from an installed package and run here; the package itself is not imported. speechmos would also need
librosa and requests; resemblyzer would need librosa and webrtcvad, which imports pkg_resources, missing from setuptools
82 on. Each process loads the weights once.
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
from codec.eval.metrics.clip import SPEECH_RATE, Clip, NoValue
from codec.eval.metrics.spectral import Frames, magnitudes

JUDGE_MIN_S = 1.6
"""Shorter clips are not judged: one window of the speaker network."""

DNSMOS_WINDOW = 144_160  # samples, 9.01 s
DNSMOS_OVERALL = (-0.06766283, 1.11546468, 0.04602535)
"""Polynomial of speechmos from the network's output to the listeners' scale, highest power first."""

# Of the speaker network; frames of 10 ms.
NUM_MELS, MEL_FRAME, MEL_STEP = 40, 400, 160
WINDOW_FRAMES, WINDOW_STEP = 160, 77
MIN_COVERAGE = 0.75  # share of the last window that must lie within the clip
QUIETEST_DB = -30.0  # quieter audio is amplified to this mean square


def dnsmos(decoded: Clip, original: Clip) -> float:
    """Estimate the mean opinion score that listeners would give the decoded speech, 1 to 5; higher is better.

    DNSMOS P.835, overall quality (Reddy, Gopal, Cutler, ICASSP 2022), by the network in the package speechmos (MIT). It
    was trained on crowd ratings of noisy speech before and after noise suppression (DNS Challenge, 16 kHz). It never
    sees the original: wrong words or another voice cost nothing if they sound clean. Our clips score 2.4 to 3.3 before
    encoding, so compare with that score. Quiet speech scores lower, by one point at -60 dB. Samples beyond full scale
    are clipped, as in a file. Windows of 9.01 s are averaged, as few as cover the clip; a shorter clip is repeated. The
    package takes a window every second. On our clips that is four times the work for scores that differ by 0.03 (rms).

    Raises:
        NoValue: The clip is shorter than 1.6 s, or the original is constant.
        ConfigError: speechmos or onnxruntime is not installed.
    """
    network = _load_dnsmos()
    _check_can_be_judged(original)
    samples = decoded.at(SPEECH_RATE).samples.clamp(-1, 1).float().numpy()
    if len(samples) < DNSMOS_WINDOW:
        samples = np.resize(samples, DNSMOS_WINDOW)  # repeats them
    starts = np.linspace(0, len(samples) - DNSMOS_WINDOW, math.ceil(len(samples) / DNSMOS_WINDOW)).round().astype(int)
    windows = [samples[None, first : first + DNSMOS_WINDOW] for first in starts]
    raw = [network.run(None, {"input_1": window})[0][0][2] for window in windows]
    return float(np.mean(np.polyval(DNSMOS_OVERALL, raw)))


def speaker_similarity(decoded: Clip, original: Clip) -> float:
    """Measure the similarity of the decoded and the original voice, 0 to 1 without a unit; higher is better.

    Cosine of two speaker embeddings of the GE2E network (Wan et al., arXiv:1710.10467) in the package resemblyzer
    (Apache-2.0). It was trained to tell speakers apart; the package does not name its data, but says that it works best
    on English. Equal voices score 1. Clips of two different speakers of ours score 0.56 to 0.89, so compare with that.
    As in the package, audio below -30 dB (mean square) is amplified to it, and windows of 1.6 s are averaged. Unlike
    there, pauses are not cut out, so both signals have the same windows. Constant decoded audio has no voice: 0.

    Raises:
        NoValue: The clip is shorter than 1.6 s, or the original is constant.
        ConfigError: resemblyzer is not installed.
    """
    _check_can_be_judged(original)
    if decoded.is_constant:
        return 0.0
    return float(torch.dot(decoded.once(embed_voice), original.once(embed_voice)))


def embed_voice(clip: Clip) -> Tensor:
    """Embed the voice of a clip that is not constant as a vector `[256]` of length 1.

    Raises:
        ConfigError: resemblyzer is not installed.
    """
    return _load_speaker().embed(clip.at(SPEECH_RATE).samples)


class SpeakerNetwork(nn.Module):
    """Embeds a voice: mel powers of windows of 1.6 s, three LSTM layers, mean over the windows.

    Its parameters have the names of the weights in resemblyzer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(NUM_MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        self.filterbank = _slaney_filterbank()

    @torch.no_grad()
    def embed(self, samples: Tensor) -> Tensor:
        """Embed samples `[T]`, float64 at 16 kHz, not constant, as a vector `[256]` of length 1 without negatives."""
        power_db = 10 * math.log10(float(samples.square().mean()))
        samples = samples * 10 ** (max(0.0, QUIETEST_DB - power_db) / 20)
        starts = _window_starts(len(samples))
        missing = (starts[-1] + WINDOW_FRAMES) * MEL_STEP - len(samples)
        mel = self._mel(nn.functional.pad(samples, (0, max(0, missing))))
        windows = torch.stack([mel[first : first + WINDOW_FRAMES] for first in starts])
        _, (hidden, _) = self.lstm(windows)
        embeddings = nn.functional.normalize(torch.relu(self.linear(hidden[-1])), dim=-1)
        return nn.functional.normalize(embeddings.mean(dim=0), dim=-1)

    def _mel(self, samples: Tensor) -> Tensor:
        """Mel powers `[frames, 40]` of periodic Hann frames of 25 ms, one centred every 10 ms."""
        padded = nn.functional.pad(samples, (MEL_FRAME // 2, MEL_FRAME // 2))
        power = magnitudes(padded, Frames(MEL_FRAME, MEL_STEP, MEL_FRAME)).square()
        return torch.matmul(power, self.filterbank).float()


def _window_starts(num_samples: int) -> list[int]:
    """First frame of each window; the last one is kept if at least three quarters of it lie within the clip."""
    num_frames = -(-(num_samples + 1) // MEL_STEP)
    starts = list(range(0, max(1, num_frames - WINDOW_FRAMES + WINDOW_STEP + 1), WINDOW_STEP))
    coverage = (num_samples - starts[-1] * MEL_STEP) / (WINDOW_FRAMES * MEL_STEP)
    return starts[:-1] if coverage < MIN_COVERAGE and len(starts) > 1 else starts


def _slaney_filterbank() -> Tensor:
    """Mel filterbank of librosa, float64 `[201, 40]`: triangles of equal area on Slaney's mel scale."""
    from torchaudio.functional import melscale_fbanks  # late: the import takes a second

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty filter, as in librosa
        bank: Tensor = melscale_fbanks(
            MEL_FRAME // 2 + 1, 0.0, SPEECH_RATE / 2, NUM_MELS, SPEECH_RATE, norm="slaney", mel_scale="slaney"
        )
    return bank.double()


def _check_can_be_judged(original: Clip) -> None:
    if len(original.samples) < JUDGE_MIN_S * original.sample_rate:
        raise NoValue(f"shorter than {JUDGE_MIN_S} s")
    if original.is_constant:
        raise NoValue("the original is silent or constant")


@functools.cache
def _load_dnsmos() -> Any:
    """Open the network in ONNX Runtime, with one thread, so the score does not depend on the number of processes."""
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
    """Path of a file in an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"{package} is not installed (extra 'eval'): run  {command}")
    return Path(spec.submodule_search_locations[0], file)

"""Metrics of decoded audio, by concept. A metric is a function of a decoded and an original `Clip`.

clip.py          a channel of audio, and what several metrics derive from it
metrics.py       the table of metrics; several at once, over all channels
waveform.py      SNR, SI-SDR
spectral.py      distances of short-time spectra
bands.py         errors by frequency band
loudness.py      difference of loudness
pitch.py         errors of pitch and of voicing
speech.py        PESQ, STOI
judges.py        networks of others: quality, similarity of the voice
recognition.py   errors of a phoneme recogniser
"""

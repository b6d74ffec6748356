"""Quantizers studied on vectors of known statistics, against rate-distortion theory. Never imported by inference."""

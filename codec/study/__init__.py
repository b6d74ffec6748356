"""Quantizers on Gaussian vectors, compared with rate-distortion theory. Never imported by the inference side."""

"""The codec model: encoder, vector quantizer, decoder.

Shapes in every docstring of this package use one legend:
B batch, C channels, T samples, D latent channels, F frames, K quantizers (levels), N codebook entries, d codeword size.
"""

"""Vector quantization: the quantizers, their codebooks, and the search among codewords."""

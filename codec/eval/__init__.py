"""Evaluation of a codec on files, and its metrics. Never imported by the inference side."""

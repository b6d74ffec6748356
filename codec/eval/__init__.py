"""Evaluation: metrics, and a codec judged on files. Never imported by the inference side."""

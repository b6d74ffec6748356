"""Training: data, losses, the loop, checkpoints and records. Never imported by the inference side."""

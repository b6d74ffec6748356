"""From a run to a released model: rounding, entropy tables, fingerprint, model card. Never imported by inference."""

"""From a run to a released model: entropy tables, fingerprint and model card. Never imported by inference."""

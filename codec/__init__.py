"""codec: a neural audio codec toolkit (scaffold; public names come later)."""

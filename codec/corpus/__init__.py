"""A corpus as tokens: recordings to shards of codes, here or on a Ray cluster (extra `cluster`); shards to training."""

"""A corpus as tokens: shards of codes, and what a language model trains on."""

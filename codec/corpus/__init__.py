"""Tokenise a corpus: many recordings to shards of codes, on one machine or on a Ray cluster (extra `cluster`)."""

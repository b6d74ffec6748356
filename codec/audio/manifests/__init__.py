"""Manifests of audio files by format: each reader gives the rows of a file, and refuses what it does not support."""

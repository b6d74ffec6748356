"""Metrics that compare a decoded recording with its original."""

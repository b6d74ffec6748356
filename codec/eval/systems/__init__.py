"""Codecs that `codec-eval` can judge, ours and others, behind one protocol."""

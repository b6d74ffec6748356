"""Codecs of other libraries behind our commands, and ours in the conventions of others."""

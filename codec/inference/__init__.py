"""Use of a trained model: load it, code files and live streams, code many files in a batch, run it in faster modes."""

"""A trained model at work: on disk, on streams, on files, on many files at once, and in faster modes."""

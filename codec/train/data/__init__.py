"""The batches of a run: which segment of which file each item is, as a function of the seed."""

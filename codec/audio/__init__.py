"""Audio files: read, write and resample them block by block, and list those of a data set."""

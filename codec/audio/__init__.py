"""Audio files to arrays and back, by blocks: reading, writing, resampling, manifests."""

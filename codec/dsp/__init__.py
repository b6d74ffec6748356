"""Signal processing that models, losses and metrics share: transforms, mel bands, full precision."""

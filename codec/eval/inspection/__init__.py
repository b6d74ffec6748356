"""What codec-inspect shows: facts of `.codec` files and of models, and the use of codebooks on audio."""

"""How fast and how large a model is, beside what others do. Never imported by the inference side."""

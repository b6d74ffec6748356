"""Speed, memory and cost of a model, compared with other codecs. Never imported by the inference side."""

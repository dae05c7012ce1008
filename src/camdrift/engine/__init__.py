"""Who computes the chunks: this process, or workers on Ray."""

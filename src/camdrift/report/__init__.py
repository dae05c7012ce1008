"""Tables to words, figures to bytes, and one page. Nothing here writes a file."""

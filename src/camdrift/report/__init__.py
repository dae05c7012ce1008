"""Tables to words, figures as files, and one page."""

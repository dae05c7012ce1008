"""One study: run, resume, open, verify, detect, reproduce."""

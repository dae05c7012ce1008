"""One chunk of seeds from files to rows: plan, read, attack, noise, explain, compare."""

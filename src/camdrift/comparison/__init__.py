"""Several studies: `sweep` makes them, `compare` holds them against each other."""

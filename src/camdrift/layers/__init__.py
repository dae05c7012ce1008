"""The layers of a network: traced, found, tapped, watched. Only this room registers hooks."""

"""Natural changes: an image in, the same picture changed out, as light, weather and lenses change it."""

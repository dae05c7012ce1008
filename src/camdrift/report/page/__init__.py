"""The pages of studies and comparisons: sections, templates, scripts, style sheets."""

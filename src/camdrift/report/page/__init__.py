"""The page of a report: its rendering, scripts, styles and templates."""

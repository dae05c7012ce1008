"""The command line: commands, options, progress. Only this room prints."""

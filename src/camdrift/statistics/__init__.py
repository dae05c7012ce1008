"""Tables to tables: gain, bootstrap, intervals, controls."""

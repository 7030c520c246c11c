"""The face of the toolkit: experiment files, runs, stored results and the command line."""

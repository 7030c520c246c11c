"""The output of jobs: progress during runs, tables and figures afterwards."""

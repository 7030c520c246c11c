"""Where runs are done: threads and processes of this machine, or other machines by way of Ray or Dask."""

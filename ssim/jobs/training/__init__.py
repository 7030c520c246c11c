"""Training files, their runs, what is stored of them, and the search for subnets worth serving."""

"""What runs a plan: virtual time, one process, or many machines."""

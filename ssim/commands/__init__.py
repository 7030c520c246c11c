"""One file, one command; each is imported only when it is called."""

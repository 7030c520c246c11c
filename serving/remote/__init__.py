"""Workers of other machines: each opens a stream to the router, and the frames of local workers go through it."""

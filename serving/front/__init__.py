"""The front of a live run: clients ask it over the network by the Open Inference Protocol (KServe v2)."""

"""The latency tables that come with the toolkit, as data."""

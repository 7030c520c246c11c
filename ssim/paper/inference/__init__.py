"""What the paper leaves out, inferred: a space of choices, the paper's statements, a search, and what is compatible."""

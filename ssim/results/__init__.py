"""What is stored, and what is made of it: summaries, figures, reports, gaps."""

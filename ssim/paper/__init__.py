"""SuperServe (NSDI 2025), reproduced: studies, pictures, claims, and the page that says what became of them."""

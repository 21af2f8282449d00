"""Other ways to do the same, as their own documentation or a tutorial writes them."""

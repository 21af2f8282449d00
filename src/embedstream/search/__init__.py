"""Search: what is asked for, and what is found, by meaning and by words."""

"""How far the pipeline is, how fresh its table is, and whether it is healthy."""

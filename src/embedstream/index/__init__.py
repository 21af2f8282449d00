"""The indexes of the table: what state they are in, how they are built, when they are built by themselves."""

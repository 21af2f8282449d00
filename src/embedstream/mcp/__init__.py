"""What agents may ask, and change where they are let: the tools of the Model Context Protocol."""

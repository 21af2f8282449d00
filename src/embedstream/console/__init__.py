"""The face of the pipeline: pages for people, and an API for programs, over the same parts as the command line."""

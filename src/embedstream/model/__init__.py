"""Models of the service: fetched ahead of time, and what each one is."""

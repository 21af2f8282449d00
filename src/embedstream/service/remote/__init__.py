"""The service as a gateway: another server embeds, and this one keeps its limits and its manners."""

"""What the services that answer HTTP have in common."""

"""On what a training runs: one device, several, or the workers of a cluster."""

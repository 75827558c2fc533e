"""Trackers: places outside the run's folder that are told what its record says, each only where the recipe names it."""

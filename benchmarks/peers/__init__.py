"""The other side of a benchmark: what users run today."""

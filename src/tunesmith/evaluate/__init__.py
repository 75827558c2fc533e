"""Measurements of a finished model: prediction, intervals, and one suite a file."""

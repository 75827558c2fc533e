"""Schedules: what changes with progress. One schedule a file."""

"""Rows: reading, checking, splitting."""

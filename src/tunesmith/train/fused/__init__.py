"""Blocks of a known structure as one hand-written function, forward and backward; a family of blocks is a file."""

"""Regularizers: what holds the backbone's old knowledge in place. One regularizer a file."""

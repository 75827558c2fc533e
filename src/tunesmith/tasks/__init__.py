"""Tasks: what one example is and what a good answer looks like. One task a file."""

"""Methods: which weights train, and which modules are put into the backbone. One method a file."""

"""The one training loop and what it stands on: settings, batches, optimizer, precision, checkpoints, log."""

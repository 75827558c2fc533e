"""What the programs that compare speeds have in common: cases, processes in turn, medians with their spread, pages."""

"""Known mistakes, planted: each must be seen."""

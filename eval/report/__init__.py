"""Tables, comparisons, plots and pages of runs."""

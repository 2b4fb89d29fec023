"""Tables, plots, the report and the live display: drawn from run folders alone."""

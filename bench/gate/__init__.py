"""Making the runs that a verdict rests on."""

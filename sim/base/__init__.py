"""What every package stands on: errors, units, parameters, random streams, and files that are written whole."""

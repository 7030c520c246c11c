"""SubNetAct."""

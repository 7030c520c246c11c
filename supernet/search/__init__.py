"""Search for the subnets that are worth serving. `nsga2` searches, `predictor` foresees what was not measured."""

"""Search for Pareto-optimal subnets: `nsga2` searches, `predictor` predicts subnets that were not measured."""

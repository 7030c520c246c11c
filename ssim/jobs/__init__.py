"""What a file asks for: experiments, trainings, federated trainings and profiles."""

"""Files of federated training, their runs, what is stored of them, and how it is drawn."""

"""The data plane: webhooks in, predictions and decisions out; needs databases and its own files only."""

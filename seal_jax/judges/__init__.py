"""Who says whether an answer is right: local rules, a model, an endpoint."""

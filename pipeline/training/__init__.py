"""`tamis train`: from labelled documents, or documents with losses, to a model with a card that says how good it is."""

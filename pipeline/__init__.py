"""From a recipe to a finished run; the only folder that knows Ray."""

"""One file per model family: text in, numbers out; no Ray, no thresholds."""

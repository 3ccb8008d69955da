"""One file per command of `tamis`: its arguments and its help; the work is done elsewhere in pipeline/."""

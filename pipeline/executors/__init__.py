"""Where work runs: `inline` (this process) or `ray`. Both call the same functions and return receipts."""

"""The report page of a run: one HTML file that holds everything it shows.

Invariant: it is made from the output folder alone (manifest, ledger, quarantine); the source is opened only for the
first characters of documents that are not in data/, and where it is gone they are shown without.
"""

from __future__ import annotations

from .page import render_report

__all__ = ["render_report"]

"""Run folders: the results of a fit or an ensemble. One writer (``writer``), one reader (``reader``), saved heads."""

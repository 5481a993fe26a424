"""Run folders: results of a fit or an ensemble, written by ``writer``, read by ``reader``, with saved heads."""

"""Names of models and corpora → their files on this machine."""

from featcache.fetching.fetch_names import FetchReport, fetch

__all__ = ["FetchReport", "fetch"]

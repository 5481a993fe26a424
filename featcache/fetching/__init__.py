"""Names of models → their files on this machine, for later work without a network."""

from featcache.fetching.fetch_models import FetchReport, fetch

__all__ = ["FetchReport", "fetch"]

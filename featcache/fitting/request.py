"""What a user asks of a run, in plain values."""

from featcache.settings.fits import FitSettings as FitRequest

__all__ = ["FitRequest"]

"""New audio × heads of a run → predictions."""

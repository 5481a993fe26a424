"""Options of all commands as fields of dataclasses: name, type, default, bounds and help text.

The command line, YAML, documentation of public functions, ``config.yaml`` and identity are derived from these fields.
"""

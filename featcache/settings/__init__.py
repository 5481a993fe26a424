"""Every option of every command once: its name, type, default, bounds and help text, as fields of dataclasses.

Command line, YAML, the signatures' documentation, ``config.yaml`` and identity are derived from these fields.
"""

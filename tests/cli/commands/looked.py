"""Output of commands, parsed."""

SHORT = ("--seeds", "2", "--max-epochs", "2")

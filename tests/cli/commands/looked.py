"""What commands print."""

SHORT = ("--seeds", "2", "--max-epochs", "2")

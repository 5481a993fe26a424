"""Size in bytes → readable text."""


def format_bytes(size: float) -> str:
    """Return a size as readable text with up to four digits, in units of 1000: ``1.5 MB``.

    Args:
        size: Size in bytes.
    """
    if size < 999.5:
        return f"{size:.0f} byte{'' if round(size) == 1 else 's'}"
    units = ("kB", "MB", "GB", "TB", "PB", "EB")
    size /= 1000
    for unit in units[:-1]:
        if size < 999.95:  # A larger size would be printed as 1000.0.
            return f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {units[-1]}"

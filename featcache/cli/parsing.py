"""Text of options → values: what typer does not read itself, such as lists separated by commas."""

from typer import BadParameter


def split(text: str | None) -> list[str] | None:
    """Return the words of ``a,b``; None where nothing was given."""
    return text.split(",") if text else None


def sizes(text: str | None) -> list[int] | None:
    """Return the numbers of ``3,5``; None where nothing was given.

    Raises:
        BadParameter: it is something else.
    """
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise BadParameter(f"{text!r}: expected numbers, as in 3,5", param_hint="--size") from None


def layer_settings(text: str) -> list[str]:
    """Return the settings that an option names: ``all,last`` are two, ``0,4-8`` is one."""
    parts = text.split(",")
    return parts if set(parts) <= {"all", "local", "last"} else [text]

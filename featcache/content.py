"""First bytes of a file → what it is, where its name promises something else."""

import re

HEAD_BYTES = 4096
"""Number of bytes from the beginning of a file that :func:`describe_content` looks at."""

_AGAIN = "download it again"
_PICKLE = "a pickle, which is never loaded; save the weights as safetensors"
_KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (rb"version https?://(git-lfs|hawser)\.github\.com", "a Git LFS pointer; run 'git lfs pull'"),
        (rb"/annex/objects/|\.git/annex/objects/|\.\./\.git/annex", "a git-annex pointer; run 'git annex get'"),
        (rb".{8}\{\s*\"", "a safetensors file"),
        (rb"PK\x03\x04.{26}[^/]{1,200}/(?:data\.pkl|\.format_version|byteorder)", _PICKLE),  # torch.save
        (rb"\x80[\x02-\x05]|\(dp\d|\x80\x8a\nl\xfc\x9cF\xf9", _PICKLE),
        (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive; unpack it"),
        (rb"\x1f\x8b", "a gzip archive; unpack it"),
        (rb".{257}ustar", "a tar archive; unpack it"),
        (rb"\x89HDF\r\n", "an HDF5 file"),
        (rb"\x93NUMPY", "a NumPy array"),
        (rb"GGUF", "a GGUF file"),
        (rb"(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*(?i:<!doctype html|<html|<head|<body|<title)", f"an HTML page; {_AGAIN}"),
        (rb"<\?xml|(?i:<error)", f"an XML document, perhaps an error message; {_AGAIN}"),
    )
)


def describe_content(head: bytes) -> str | None:
    """Say what a file is, and what to do, by its first bytes.

    Args:
        head: The first ``HEAD_BYTES`` of the file, or all of it where it is shorter.

    Returns:
        A noun, and often what to do: ``a Git LFS pointer; run 'git lfs pull'``. None when nothing is recognised.
    """
    if not head:
        return f"an empty file; {_AGAIN}"
    if not head.strip(b"\x00"):
        return f"a file of zeros; {_AGAIN}"
    return next((text for pattern, text in _KINDS if pattern.match(head.lstrip(b"\xef\xbb\xbf \t\r\n"))), None)

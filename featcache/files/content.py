"""First bytes of a file → description of its content, for files whose content does not match their name."""

import re

HEAD_BYTES = 4096
"""Number of bytes from the beginning of a file that :func:`describe_content` reads."""

_CONVERT = "convert it to WAV with ffmpeg"
_AGAIN = "download it again"
_PICKLE = "a pickle, which is never loaded; save the weights as safetensors"
_BRANDS = {b"M4A ": "AAC or ALAC audio in an MP4 file", b"qt  ": "a QuickTime video", b"3gp": "a 3GP file"}
_KINDS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), text)
    for pattern, text in (
        (rb"version https?://(git-lfs|hawser)\.github\.com", "a Git LFS pointer; run 'git lfs pull'"),
        (rb"/annex/objects/|\.git/annex/objects/|\.\./\.git/annex", "a git-annex pointer; run 'git annex get'"),
        (rb"\x00\x05\x16[\x00\x07]", "a macOS resource file; use the file without '._' before its name"),
        (rb"\x1aE\xdf\xa3.{0,64}webm", f"a WebM file; {_CONVERT}"),
        (rb"\x1aE\xdf\xa3", f"a Matroska file (mkv, mka); {_CONVERT}"),
        (rb"0&\xb2u\x8ef\xcf\x11", f"a Windows Media file (wma, wmv, asf); {_CONVERT}"),
        (rb"RIFF....AVI ", f"an AVI video; {_CONVERT}"),
        (rb"FLV\x01", f"a Flash video; {_CONVERT}"),
        (rb"\x00\x00\x01\xba|\x00\x00\x01\xb3", f"an MPEG video; {_CONVERT}"),
        (rb"G.{187}G.{187}G", f"an MPEG transport stream; {_CONVERT}"),
        (rb"#!AMR", f"AMR audio; {_CONVERT}"),
        (rb"\x0bw", f"AC-3 audio; {_CONVERT}"),
        (rb"ADIF|\xff[\xf0\xf1\xf8\xf9]", f"AAC audio; {_CONVERT}"),
        (rb"MAC [\x00-\xff][\x0e-\x10]", f"Monkey's Audio (ape); {_CONVERT}"),
        (rb"wvpk", f"WavPack audio; {_CONVERT}"),
        (rb"\.RMF|\.ra\xfd", f"RealMedia; {_CONVERT}"),
        (rb"TTA1", f"True Audio (tta); {_CONVERT}"),
        (rb"MThd", "MIDI notes, which contain no sound"),
        (rb"PK\x03\x04.{0,300}(?:\[Content_Types\]|xl/|opendocument)", "a spreadsheet; save it as CSV in UTF-8"),
        (rb"\xd0\xcf\x11\xe0", "an old Office document; save it as CSV in UTF-8"),
        (rb"PK\x03\x04.{26}[^/]{1,200}/(?:data\.pkl|\.format_version|byteorder)", _PICKLE),  # torch.save
        (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive; unpack it"),
        (rb"\x1f\x8b", "a gzip archive; unpack it"),
        (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a|BZh[1-9]|\xfd7zXZ\x00|\x28\xb5\x2f\xfd", "an archive; unpack it"),
        (rb".{257}ustar", "a tar archive; unpack it"),
        (rb"%PDF-", f"a PDF document; {_AGAIN}"),
        (rb"\x89PNG|\xff\xd8\xff|GIF8", f"an image; {_AGAIN}"),
        (rb"\x89HDF\r\n", "an HDF5 file"),
        (rb"\x93NUMPY", "a NumPy array"),
        (rb"GGUF", "a GGUF file"),
        (rb"\x80[\x02-\x05]|\(dp\d|\x80\x8a\nl\xfc\x9cF\xf9", _PICKLE),
        (rb"(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*(?i:<!doctype html|<html|<head|<body|<title)", f"an HTML page; {_AGAIN}"),
        (rb"<\?xml|(?i:<error)", f"an XML document, perhaps an error message; {_AGAIN}"),
    )
)


def describe_content(head: bytes, *, text: bool = True) -> str | None:
    """Describe a file by its first bytes, with advice what to do.

    Args:
        head: First ``HEAD_BYTES`` bytes of the file, or the whole file if it is shorter.
        text: Whether to recognise plain text too.

    Returns:
        Noun phrase, often with advice: ``a Git LFS pointer; run 'git lfs pull'``. None if the content is unknown.
    """
    if not head:
        return f"an empty file; {_AGAIN}"
    if not head.strip(b"\x00"):
        return f"a file of zeros; {_AGAIN}"
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        brand = next((kind for brand, kind in _BRANDS.items() if head[8:12].startswith(brand)), "an MP4 file")
        return f"{brand}; {_CONVERT}"
    if head[:3] == b"ID3" and len(head) > 10:  # AAC audio may follow the tag.
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        head = head[10 + size :] or head
    found = next((kind for pattern, kind in _KINDS if pattern.match(head.lstrip(b"\xef\xbb\xbf \t\r\n"))), None)
    return found or (_text(head) if text else None)


def _text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.end < len(head):  # Otherwise only the last character may be cut.
            return None
        text = head[: error.start].decode()
    if any(ord(character) < 32 and character not in "\t\n\r\f\x1b" for character in text):
        return None
    start = text.strip()[:20].split("\n")[0]
    return f"JSON text; {_AGAIN}" if start[:1] in ("{", "[") else f"text ({start!r} …); {_AGAIN}"

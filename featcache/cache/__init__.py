"""Features on disk: the file format (layout), one writer and one reader."""

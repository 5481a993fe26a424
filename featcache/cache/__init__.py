"""Features on disk: the file format (layout), its one writer and its one reader."""

"""Reading and writing files: an unfinished file never looks finished, and hostile files cause no harm."""

"""What was said: words of people in the manifest, words of machines beside it."""

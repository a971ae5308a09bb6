"""One module for each change of the schema; what is released is never edited."""

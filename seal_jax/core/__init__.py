"""The method on arrays: no files, no tokenizer, no settings, no text."""

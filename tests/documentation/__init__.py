"""Tests of the documents: their language, links, commands and examples."""

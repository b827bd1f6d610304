"""Panels of the page; their arithmetic is in the modules of the parent package."""

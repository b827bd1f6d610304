"""Tests of what `infra/` holds."""

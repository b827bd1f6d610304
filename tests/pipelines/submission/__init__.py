"""`metseg submit` and what it speaks to."""

DATA = ("--param", "reference=s3://scans/2026")

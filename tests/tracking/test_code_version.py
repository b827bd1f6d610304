"""Which code and which image are running."""

from __future__ import annotations

from metseg.tracking.code_version import container_image


def test_the_image_is_named_only_where_the_environment_names_one(monkeypatch):
    monkeypatch.setenv("METSEG_IMAGE", "metseg/python-train:1.2")
    assert container_image() == "metseg/python-train:1.2"
    monkeypatch.setenv("METSEG_IMAGE", "")
    assert container_image() is None
    monkeypatch.delenv("METSEG_IMAGE")
    assert container_image() is None

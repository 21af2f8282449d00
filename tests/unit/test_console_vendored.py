"""What other people wrote lies in static/vendor as they published it, with its licence."""

import hashlib
import json
from importlib.resources import files

import pytest

VENDOR = files("embedstream.console").joinpath("static", "vendor")
PACKAGES = json.loads(VENDOR.joinpath("vendored.json").read_text(encoding="utf-8"))["packages"]
LOCKED = [each for package in PACKAGES for each in package["files"]]


@pytest.mark.parametrize("locked", LOCKED, ids=lambda each: each["file"])
def test_a_file_is_what_the_lock_says(locked):
    assert hashlib.sha256(VENDOR.joinpath(locked["file"]).read_bytes()).hexdigest() == locked["sha256"]


def test_there_is_nothing_else():
    there = {each.name for each in VENDOR.iterdir()}
    assert there == {"vendored.json", *(each["file"] for each in LOCKED)}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda each: each["name"])
def test_every_package_has_a_version_and_its_licence(package):
    assert package["version"]
    assert package["license"] in ("0BSD", "MIT")
    assert package["license_file"] in [each["file"] for each in package["files"]]
    licence = VENDOR.joinpath(package["license_file"]).read_text(encoding="utf-8")
    assert "Permission to use, copy" in licence or "Permission is hereby granted" in licence

"""Disk image formats other than qcow2, each behind the same ``Disk`` protocol."""

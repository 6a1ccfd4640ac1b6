"""This program beside the real qemu-img, on images the real programs made."""

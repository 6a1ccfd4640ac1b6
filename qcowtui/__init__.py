"""qcowtui: look into QEMU disk images and change them without fear."""

__version__ = "0.1.0.dev0"

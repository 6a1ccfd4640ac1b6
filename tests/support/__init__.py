"""What several test packages share: the oracle's programs and the command line under test."""

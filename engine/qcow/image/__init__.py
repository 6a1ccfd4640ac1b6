"""An open qcow2 image: its header, tables, states (active and snapshots) and guest bytes."""

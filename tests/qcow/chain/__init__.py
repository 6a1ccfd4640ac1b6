"""Following backing chains."""

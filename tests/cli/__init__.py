"""The command line: its grammar, its spellings, and what each verb says."""

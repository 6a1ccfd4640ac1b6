VERB=None

"""Questions one can ask of an image; none of them writes a byte."""

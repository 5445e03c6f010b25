"""`seal report --figures` and `seal compare --figures`: runs as pictures in SVG."""

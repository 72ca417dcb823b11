"""corgi's own engine: backward linear bounds in which every row keeps only its cone."""

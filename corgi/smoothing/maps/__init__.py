"""Base maps: what is averaged over noise, one kind a file."""

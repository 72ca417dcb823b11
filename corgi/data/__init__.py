"""Input data: picture files, pre-processing recipes, and the folder layouts of public data sets."""

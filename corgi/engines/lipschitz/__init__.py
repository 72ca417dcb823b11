"""Local Lipschitz constants of map pixels and their differences: the certificates of theory 1.7."""

"""VNN-LIB: specifications read, written and decided, as verifiers of neural networks exchange them."""

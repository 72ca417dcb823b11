"""Results -> text, JSON documents and pictures. Pure functions: nothing here prints or writes a file."""

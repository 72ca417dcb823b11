"""The command line: one file a subcommand, each parse -> call the library -> render. It alone prints."""

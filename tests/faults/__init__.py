"""What damaged and hostile files do to the commands that read them: `make test-faults`."""

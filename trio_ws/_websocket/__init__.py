"""What an application holds and calls."""

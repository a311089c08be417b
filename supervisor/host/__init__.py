"""What the daemon needs of the machine: one small interface per need, a macOS and a Linux side."""

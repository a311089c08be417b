"""How runs are shown to people: terminal tables and explanations."""

"""What stages tell each other in JSON, declared once: written and read through these models."""

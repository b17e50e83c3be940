"""What the reference policy says of the pairs, kept, and how far samplers are from the trainer."""

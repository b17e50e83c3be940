"""What the training stages share: one loop, its settings, losses and examples. Not a stage."""

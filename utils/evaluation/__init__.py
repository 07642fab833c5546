"""What a trained network is worth: frozen encoders, few labels, bags."""

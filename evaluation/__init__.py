"""What a trained model is worth: metrics, frozen encoders, few labels, retrieval, bags, corruptions."""

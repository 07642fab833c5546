"""What few labels are worth on top of an encoder."""

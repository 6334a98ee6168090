"""What a user does with the widgets, in a browser."""

"""A model as others get it: weights, licences and the card that says what they are."""

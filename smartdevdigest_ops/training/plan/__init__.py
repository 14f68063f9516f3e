"""What a training run needs, told before it starts."""

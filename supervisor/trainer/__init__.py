"""The code that runs inside the trainer process: the only room with mlx."""

"""How trainers print: log lines to reports, for mlx-lm before and after 0.32."""

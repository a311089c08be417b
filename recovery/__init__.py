"""The pure core: evidence, findings, diagnosis, plan, adjustment; checkpoint verification and choice."""

"""Knowledge as data: the job file, trainers, machines, models, and how a configuration is resolved."""

"""Named recipes as YAML: each holds only what differs from the defaults of `scoutview.pretraining.Recipe`."""

"""Does the environment work: asked in fresh processes, compared before against after."""

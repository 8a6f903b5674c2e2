"""Search in latent space for molecules that score well."""

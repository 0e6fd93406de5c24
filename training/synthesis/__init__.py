"""Songs and speech made by rule, for those without data."""

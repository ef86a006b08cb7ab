"""The report of a run: one HTML page that tells the whole run, and the model card of the model that it made."""

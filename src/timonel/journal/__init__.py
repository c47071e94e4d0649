"""The journal: what was answered, kept from the worker's reply to the Parquet segment."""

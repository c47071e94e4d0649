"""Timonel takes a machine-learning model from data to production and keeps it on course."""

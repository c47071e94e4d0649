"""Monitoring: what was asked and answered, summed up and compared with what was trained on."""

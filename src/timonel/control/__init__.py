"""Signal → decision: when to retrain, and what becomes of a version in a rollout."""

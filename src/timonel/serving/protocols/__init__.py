"""The protocols that clients of other servers speak, answered as the native one is."""

"""Version → answers: the application, its workers and their supervisor."""

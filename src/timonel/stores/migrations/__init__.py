"""The database's revisions, run by `Database.open`; `rNNNN` names rise with their order.

A revision only adds, and what it replaces goes one release later: workers one release older run on
the new tables.
"""

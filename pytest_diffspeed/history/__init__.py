"""History: every session's records in one store, and one figure's series over its commits.

Knows records and a database, neither pytest nor torch.  Imported when a session of ``--diffspeed``
ends, and by ``diffspeed history``.
"""

"""Who stored, queried, retrieved and changed what: the audit trail (PS3.15 A.5)."""

"""
What a bad day brings: crashes, full disks, dead databases, hostile peers, load.
Tests do a little of it; C{python -m tests.faults} much more.
"""

"""
What the harness of L{tests.faults.fuzz} is made of: targets, which take one
input each, and what makes inputs out of others.
"""

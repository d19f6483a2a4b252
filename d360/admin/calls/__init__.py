"""
What each call takes and answers, as L{d360.admin.openapi} shows it. A module
stands beside each one of resources; it has C{CALLS}, by the name below C{/api/},
then by the rest of the path, then by method; and C{SCHEMAS}, parts that
others refer to.
"""

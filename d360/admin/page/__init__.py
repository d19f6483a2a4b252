"""The page for people: what the browser gets, see L{d360.admin.static}."""

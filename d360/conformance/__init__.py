"""
D360's DICOM conformance statement (PS3.2), written from the code's own
registries, so that it says what the code does::

    python -m d360.conformance > docs/conformance.rst
"""

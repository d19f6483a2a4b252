"""
D360, a DICOM archive server (PACS).

@var __version__: of the software.
@var IMPLEMENTATION_CLASS_UID: announced in every association and written into
    every file (PS3.7 D.3.3.2, PS3.10 7.1; conformance 4.2.2.4).
@var IMPLEMENTATION_VERSION: the name that goes with it.
"""

__version__ = "0.1.0"

IMPLEMENTATION_CLASS_UID = "1.3.6.1.4.1.35672.0.3.6"
IMPLEMENTATION_VERSION = "D360-3-6"

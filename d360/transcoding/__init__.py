"""
Stored instances in another transfer syntax, for a peer that does not take the
one in which they are kept (PS3.4 C.4.2, PS3.5 Annex A).

L{d360.transcoding.transcoder} has child processes, each a
L{d360.transcoding.worker}, which does one conversion after the other with
L{d360.transcoding.conversion}. Decoders of compressed pixels are C code that
reads what a peer has sent: there they may take their time, and may fail in
their own process and within its limits.
"""

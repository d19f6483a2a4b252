"""PS3.8: the DICOM upper layer protocol over TCP."""

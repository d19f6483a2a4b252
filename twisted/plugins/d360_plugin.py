"""Makes C{twistd d360} known."""

from twisted.application.service import ServiceMaker

d360 = ServiceMaker("D360", "d360.tap", "A DICOM archive server (PACS).", "d360")

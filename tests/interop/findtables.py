"""
The attributes of conformance 7.2.2, with what the set of L{findset} has there.
"""

from __future__ import annotations

from tests.interop.findset import HEAD, THORAX

#: The tags of what is asked and answered below, by keyword.
TAGS = {
    "InstanceCreationDate": "0008,0012",
    "InstanceCreationTime": "0008,0013",
    "SOPClassUID": "0008,0016",
    "SOPInstanceUID": "0008,0018",
    "StudyDate": "0008,0020",
    "SeriesDate": "0008,0021",
    "StudyTime": "0008,0030",
    "SeriesTime": "0008,0031",
    "AccessionNumber": "0008,0050",
    "Modality": "0008,0060",
    "ModalitiesInStudy": "0008,0061",
    "StudyDescription": "0008,1030",
    "SeriesDescription": "0008,103e",
    "PatientName": "0010,0010",
    "PatientID": "0010,0020",
    "PatientBirthDate": "0010,0030",
    "PatientSex": "0010,0040",
    "AnatomicalOrientationType": "0010,2210",
    "BodyPartExamined": "0018,0015",
    "PatientPosition": "0018,5100",
    "StudyInstanceUID": "0020,000d",
    "SeriesInstanceUID": "0020,000e",
    "StudyID": "0020,0010",
    "SeriesNumber": "0020,0011",
    "InstanceNumber": "0020,0013",
    "Laterality": "0020,0060",
    "NumberOfPatientRelatedStudies": "0020,1200",
    "NumberOfPatientRelatedSeries": "0020,1202",
    "NumberOfPatientRelatedInstances": "0020,1204",
    "NumberOfStudyRelatedSeries": "0020,1206",
    "NumberOfStudyRelatedInstances": "0020,1208",
    "NumberOfSeriesRelatedInstances": "0020,1209",
}

#: Conformance 7.2.2.2: all that a level returns, and what the set has there.
RETURNED: dict[str, dict[str, str]] = {
    "PATIENT": {
        "PatientName": "Müller^Jürgen",
        "PatientID": "F1",
        "PatientBirthDate": "19700131",
        "PatientSex": "M",
        "NumberOfPatientRelatedStudies": "2",
        "NumberOfPatientRelatedSeries": "3",
        "NumberOfPatientRelatedInstances": "4",
    },
    "STUDY": {
        "AccessionNumber": "ACC1",
        "PatientName": "Müller^Jürgen",
        "PatientID": "F1",
        "PatientBirthDate": "19700131",
        "PatientSex": "M",
        "StudyID": "ST1",
        "StudyInstanceUID": THORAX,
        "StudyDate": "20240110",
        "StudyTime": "101530.25",
        "ModalitiesInStudy": "CT\\PR",
        "StudyDescription": "Thorax, schräg",
        "NumberOfStudyRelatedSeries": "2",
        "NumberOfStudyRelatedInstances": "3",
    },
    "SERIES": {
        "StudyInstanceUID": THORAX,
        "SeriesInstanceUID": f"{THORAX}.1",
        "SeriesDescription": "Axial",
        "SeriesNumber": "1",
        "Modality": "CT",
        "SeriesDate": "20240111",
        "SeriesTime": "101531",
        "Laterality": "L",
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
        "AnatomicalOrientationType": "BIPED",
        "NumberOfSeriesRelatedInstances": "2",
    },
    "IMAGE": {
        "StudyInstanceUID": THORAX,
        "SeriesInstanceUID": f"{THORAX}.1",
        "SOPInstanceUID": f"{THORAX}.1.2",
        "SOPClassUID": "CTImageStorage",  # as findscu calls it
        "InstanceNumber": "2",
        "InstanceCreationDate": "20240112",
        "InstanceCreationTime": "101602",
    },
}

#: What names one entity of a level in the set.
NAMED = {
    "PATIENT": ("PatientID=F1",),
    "STUDY": (f"StudyInstanceUID={THORAX}",),
    "SERIES": (f"StudyInstanceUID={THORAX}", f"SeriesInstanceUID={THORAX}.1"),
    "IMAGE": (f"StudyInstanceUID={THORAX}", f"SOPInstanceUID={THORAX}.1.2"),
}

#: Conformance 7.2.2.1: each key with a value that finds that entity, and one
#: that does not.
KEYS: dict[str, dict[str, tuple[str, str]]] = {
    "PATIENT": {
        "PatientName": ("Müll*", "Mill*"),
        "PatientID": ("F1", "F"),
        "PatientBirthDate": ("19700101-19701231", "19710101-"),
        "PatientSex": ("M", "F"),
    },
    "STUDY": {
        "AccessionNumber": ("ACC1", "ACC2"),
        "PatientName": ("*jürgen", "*jurgens"),
        "PatientID": ("F1", "F2"),
        "PatientBirthDate": ("-19700131", "-19700130"),
        "PatientSex": ("M", "F"),
        "StudyID": ("ST1", "ST2"),
        "StudyInstanceUID": (THORAX, HEAD),
        "StudyDate": ("20240101-20240131", "20240111-"),
        "StudyTime": ("1000-1030", "1016-1030"),
        "ModalitiesInStudy": ("PR", "MR"),
        "StudyDescription": ("*schr?g", "*schr?"),
    },
    "SERIES": {
        "StudyInstanceUID": (THORAX, HEAD),
        "SeriesInstanceUID": (f"{THORAX}.1", f"{THORAX}.3"),
        "SeriesNumber": ("1", "2"),
        "Modality": ("CT", "PR"),
    },
    "IMAGE": {
        "StudyInstanceUID": (THORAX, HEAD),
        "SeriesInstanceUID": (f"{THORAX}.1", f"{THORAX}.2"),
        "SOPInstanceUID": (f"{THORAX}.1.2", f"{THORAX}.1.1"),
        "SOPClassUID": ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"),
        "InstanceNumber": ("2", "1"),
    },
}

#: In each answer, whatever was asked.
ALWAYS = {"0008,0052", "0008,0054", "0008,0056"}

CHARACTER_SET = "0008,0005"

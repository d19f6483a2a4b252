"""
The SOP classes of D360 as data (PS3.4, PS3.6 Annex A): the storage classes of
conformance 4.2.1.3, the query and retrieve classes of 4.2.1.4 to 4.2.1.6, the
worklist's, and Verification.
"""

from __future__ import annotations

import re

from pydicom.uid import UID

from d360.services.uids import isUID

VERIFICATION = "1.2.840.10008.1.1"

PATIENT_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"
STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"

MODALITY_WORKLIST_FIND = "1.2.840.10008.5.1.4.31"

STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
#: The one instance of it, see PS3.4 J.3.5.
STORAGE_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"

_STANDARD_ROOT = "1.2.840.10008."

# Below that root.
_STORAGE = """
1.3.10 MediaStorageDirectoryStorage
5.1.4.1.1.1 ComputedRadiographyImageStorage
5.1.4.1.1.1.1 DigitalXRayImageStorageForPresentation
5.1.4.1.1.1.1.1 DigitalXRayImageStorageForProcessing
5.1.4.1.1.1.2 DigitalMammographyXRayImageStorageForPresentation
5.1.4.1.1.1.2.1 DigitalMammographyXRayImageStorageForProcessing
5.1.4.1.1.1.3 DigitalIntraOralXRayImageStorageForPresentation
5.1.4.1.1.1.3.1 DigitalIntraOralXRayImageStorageForProcessing
5.1.4.1.1.2 CTImageStorage
5.1.4.1.1.2.1 EnhancedCTImageStorage
5.1.4.1.1.3.1 UltrasoundMultiFrameImageStorage
5.1.4.1.1.4 MRImageStorage
5.1.4.1.1.4.1 EnhancedMRImageStorage
5.1.4.1.1.4.2 MRSpectroscopyStorage
5.1.4.1.1.4.3 EnhancedMRColorImageStorage
5.1.4.1.1.6.1 UltrasoundImageStorage
5.1.4.1.1.6.2 EnhancedUSVolumeStorage
5.1.4.1.1.7 SecondaryCaptureImageStorage
5.1.4.1.1.7.1 MultiFrameSingleBitSecondaryCaptureImageStorage
5.1.4.1.1.7.2 MultiFrameGrayscaleByteSecondaryCaptureImageStorage
5.1.4.1.1.7.3 MultiFrameGrayscaleWordSecondaryCaptureImageStorage
5.1.4.1.1.7.4 MultiFrameTrueColorSecondaryCaptureImageStorage
5.1.4.1.1.9.1.1 TwelveLeadECGWaveformStorage
5.1.4.1.1.9.1.2 GeneralECGWaveformStorage
5.1.4.1.1.9.1.3 AmbulatoryECGWaveformStorage
5.1.4.1.1.9.2.1 HemodynamicWaveformStorage
5.1.4.1.1.9.3.1 CardiacElectrophysiologyWaveformStorage
5.1.4.1.1.9.4.1 BasicVoiceAudioWaveformStorage
5.1.4.1.1.9.4.2 GeneralAudioWaveformStorage
5.1.4.1.1.9.5.1 ArterialPulseWaveformStorage
5.1.4.1.1.9.6.1 RespiratoryWaveformStorage
5.1.4.1.1.11.1 GrayscaleSoftcopyPresentationStateStorage
5.1.4.1.1.11.2 ColorSoftcopyPresentationStateStorage
5.1.4.1.1.11.3 PseudoColorSoftcopyPresentationStateStorage
5.1.4.1.1.11.4 BlendingSoftcopyPresentationStateStorage
5.1.4.1.1.11.5 XAXRFGrayscaleSoftcopyPresentationStateStorage
5.1.4.1.1.12.1 XRayAngiographicImageStorage
5.1.4.1.1.12.1.1 EnhancedXAImageStorage
5.1.4.1.1.12.2 XRayRadiofluoroscopicImageStorage
5.1.4.1.1.12.2.1 EnhancedXRFImageStorage
5.1.4.1.1.13.1.1 XRay3DAngiographicImageStorage
5.1.4.1.1.13.1.2 XRay3DCraniofacialImageStorage
5.1.4.1.1.13.1.3 BreastTomosynthesisImageStorage
5.1.4.1.1.14.1 IntravascularOpticalCoherenceTomographyImageStorageForPresentation
5.1.4.1.1.14.2 IntravascularOpticalCoherenceTomographyImageStorageForProcessing
5.1.4.1.1.20 NuclearMedicineImageStorage
5.1.4.1.1.66 RawDataStorage
5.1.4.1.1.66.1 SpatialRegistrationStorage
5.1.4.1.1.66.2 SpatialFiducialsStorage
5.1.4.1.1.66.3 DeformableSpatialRegistrationStorage
5.1.4.1.1.66.4 SegmentationStorage
5.1.4.1.1.66.5 SurfaceSegmentationStorage
5.1.4.1.1.67 RealWorldValueMappingStorage
5.1.4.1.1.77.1.1 VLEndoscopicImageStorage
5.1.4.1.1.77.1.1.1 VideoEndoscopicImageStorage
5.1.4.1.1.77.1.2 VLMicroscopicImageStorage
5.1.4.1.1.77.1.2.1 VideoMicroscopicImageStorage
5.1.4.1.1.77.1.3 VLSlideCoordinatesMicroscopicImageStorage
5.1.4.1.1.77.1.4 VLPhotographicImageStorage
5.1.4.1.1.77.1.4.1 VideoPhotographicImageStorage
5.1.4.1.1.77.1.5.1 OphthalmicPhotography8BitImageStorage
5.1.4.1.1.77.1.5.2 OphthalmicPhotography16BitImageStorage
5.1.4.1.1.77.1.5.3 StereometricRelationshipStorage
5.1.4.1.1.77.1.5.4 OphthalmicTomographyImageStorage
5.1.4.1.1.77.1.6 VLWholeSlideMicroscopyImageStorage
5.1.4.1.1.78.1 LensometryMeasurementsStorage
5.1.4.1.1.78.2 AutorefractionMeasurementsStorage
5.1.4.1.1.78.3 KeratometryMeasurementsStorage
5.1.4.1.1.78.4 SubjectiveRefractionMeasurementsStorage
5.1.4.1.1.78.5 VisualAcuityMeasurementsStorage
5.1.4.1.1.78.6 SpectaclePrescriptionReportStorage
5.1.4.1.1.78.7 OphthalmicAxialMeasurementsStorage
5.1.4.1.1.78.8 IntraocularLensCalculationsStorage
5.1.4.1.1.79.1 MacularGridThicknessAndVolumeReportStorage
5.1.4.1.1.80.1 OphthalmicVisualFieldStaticPerimetryMeasurementsStorage
5.1.4.1.1.88.11 BasicTextSRStorage
5.1.4.1.1.88.22 EnhancedSRStorage
5.1.4.1.1.88.33 ComprehensiveSRStorage
5.1.4.1.1.88.40 ProcedureLogStorage
5.1.4.1.1.88.50 MammographyCADSRStorage
5.1.4.1.1.88.59 KeyObjectSelectionDocumentStorage
5.1.4.1.1.88.65 ChestCADSRStorage
5.1.4.1.1.88.67 XRayRadiationDoseSRStorage
5.1.4.1.1.88.69 ColonCADSRStorage
5.1.4.1.1.88.70 ImplantationPlanSRStorage
5.1.4.1.1.104.1 EncapsulatedPDFStorage
5.1.4.1.1.104.2 EncapsulatedCDAStorage
5.1.4.1.1.128 PositronEmissionTomographyImageStorage
5.1.4.1.1.130 EnhancedPETImageStorage
5.1.4.1.1.131 BasicStructuredDisplayStorage
5.1.4.1.1.481.1 RTImageStorage
5.1.4.1.1.481.2 RTDoseStorage
5.1.4.1.1.481.3 RTStructureSetStorage
5.1.4.1.1.481.4 RTBeamsTreatmentRecordStorage
5.1.4.1.1.481.5 RTPlanStorage
5.1.4.1.1.481.6 RTBrachyTreatmentRecordStorage
5.1.4.1.1.481.7 RTTreatmentSummaryRecordStorage
5.1.4.1.1.481.8 RTIonPlanStorage
5.1.4.1.1.481.9 RTIonBeamsTreatmentRecordStorage
5.1.4.34.7 RTBeamsDeliveryInstructionStorage
5.1.4.38.1 HangingProtocolStorage
5.1.4.39.1 ColorPaletteStorage
5.1.4.43.1 GenericImplantTemplateStorage
5.1.4.44.1 ImplantAssemblyTemplateStorage
5.1.4.45.1 ImplantTemplateGroupStorage
"""

#: Keyword (PS3.6) of each storage SOP class of conformance 4.2.1.3, by UID.
STORAGE_KEYWORDS: dict[str, str] = {
    _STANDARD_ROOT + suffix: keyword
    for suffix, keyword in (line.split() for line in _STORAGE.strip().splitlines())
}

STORAGE = frozenset(STORAGE_KEYWORDS)

#: Below it, the standard registers the composite storage SOP classes.
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."

#: How the names of the storage classes outside that root end, such as
#: "RT Brachy Application Setup Delivery Instruction Storage".
_STORAGE_NAME = re.compile(r"Storage( \(Retired\)| - (Trial|For .*))?\Z")


def mayBeStorage(sopClass: str) -> bool:
    """
    Whether a SOP class outside of L{STORAGE} can be a storage class: those
    below the standard's storage root, those that the standard's registry
    calls storage, and every private one, since only its owner knows what it
    is and a query class of his would not come with a C-STORE.
    """
    if not isUID(sopClass):
        return False
    if not sopClass.startswith(_STANDARD_ROOT):
        return True
    if sopClass.startswith(_STORAGE_ROOT):
        return True
    return _STORAGE_NAME.search(UID(sopClass).name) is not None

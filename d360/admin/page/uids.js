// Names of the UIDs that people meet most; others are shown as they are.

const STORAGE = "1.2.840.10008.5.1.4.1.1.";
const SYNTAX = "1.2.840.10008.1.2";

const NAMES = {
  [`${STORAGE}1`]: "Computed Radiography",
  [`${STORAGE}1.1`]: "Digital X-Ray, for presentation",
  [`${STORAGE}1.1.1`]: "Digital X-Ray, for processing",
  [`${STORAGE}1.2`]: "Mammography, for presentation",
  [`${STORAGE}1.2.1`]: "Mammography, for processing",
  [`${STORAGE}2`]: "CT",
  [`${STORAGE}2.1`]: "Enhanced CT",
  [`${STORAGE}3.1`]: "Ultrasound, multi-frame",
  [`${STORAGE}4`]: "MR",
  [`${STORAGE}4.1`]: "Enhanced MR",
  [`${STORAGE}6.1`]: "Ultrasound",
  [`${STORAGE}7`]: "Secondary Capture",
  [`${STORAGE}7.4`]: "Secondary Capture, multi-frame colour",
  [`${STORAGE}9.1.1`]: "12-lead ECG",
  [`${STORAGE}11.1`]: "Grayscale Presentation State",
  [`${STORAGE}12.1`]: "X-Ray Angiography",
  [`${STORAGE}12.2`]: "X-Ray Radiofluoroscopy",
  [`${STORAGE}13.1.3`]: "Breast Tomosynthesis",
  [`${STORAGE}20`]: "Nuclear Medicine",
  [`${STORAGE}66.4`]: "Segmentation",
  [`${STORAGE}77.1.4`]: "Visible Light Photography",
  [`${STORAGE}88.11`]: "Basic Text SR",
  [`${STORAGE}88.22`]: "Enhanced SR",
  [`${STORAGE}88.33`]: "Comprehensive SR",
  [`${STORAGE}88.59`]: "Key Object Selection",
  [`${STORAGE}88.67`]: "X-Ray Radiation Dose SR",
  [`${STORAGE}104.1`]: "Encapsulated PDF",
  [`${STORAGE}128`]: "PET",
  [`${STORAGE}481.1`]: "RT Image",
  [`${STORAGE}481.2`]: "RT Dose",
  [`${STORAGE}481.3`]: "RT Structure Set",
  [`${STORAGE}481.5`]: "RT Plan",
  [SYNTAX]: "Implicit VR Little Endian",
  [`${SYNTAX}.1`]: "Explicit VR Little Endian",
  [`${SYNTAX}.1.99`]: "Deflated Explicit VR Little Endian",
  [`${SYNTAX}.2`]: "Explicit VR Big Endian",
  [`${SYNTAX}.5`]: "RLE Lossless",
  [`${SYNTAX}.4.50`]: "JPEG Baseline",
  [`${SYNTAX}.4.51`]: "JPEG Extended",
  [`${SYNTAX}.4.57`]: "JPEG Lossless",
  [`${SYNTAX}.4.70`]: "JPEG Lossless SV1",
  [`${SYNTAX}.4.80`]: "JPEG-LS Lossless",
  [`${SYNTAX}.4.81`]: "JPEG-LS Near-Lossless",
  [`${SYNTAX}.4.90`]: "JPEG 2000 Lossless",
  [`${SYNTAX}.4.91`]: "JPEG 2000",
  [`${SYNTAX}.4.201`]: "HTJ2K Lossless",
  [`${SYNTAX}.4.203`]: "HTJ2K",
};

export const uidName = (uid) => NAMES[uid] ?? uid ?? "";

export const MODALITIES = [
  "CR", "CT", "DX", "ECG", "ES", "IO", "MG", "MR", "NM", "OP", "OPT", "OT", "PT", "PX", "RF",
  "RTIMAGE", "RTPLAN", "SC", "SM", "SR", "US", "XA", "XC",
];

-- The index of the archive: patients, studies, series, instances.
--
-- A column is named as d360/attributes.py names it; <column>_key holds the
-- match key of the value beside it. Text compares by code point (COLLATE "C"),
-- whatever the locale of the database.
--
-- Who describes an entity: an entity's attributes are those of one of its
-- instances, the one received first (described_at, described_by). A patient's
-- are those of the patient's study described last. So a rebuild from the files
-- comes to the same rows in whatever order it reads them.
--
-- A series belongs to one study: a Series Instance UID that comes in with two
-- Study Instance UIDs makes two series, and each instance is found under the
-- UIDs that it carries.

CREATE TABLE patients (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Patient ID and issuer; without a Patient ID name, birth date and sex.
    identity text COLLATE "C" NOT NULL UNIQUE,
    patient_id text COLLATE "C" NOT NULL,
    issuer_of_patient_id text COLLATE "C" NOT NULL,
    patient_name text COLLATE "C" NOT NULL,
    patient_name_key text COLLATE "C" NOT NULL,
    patient_birth_date text COLLATE "C" NOT NULL,
    patient_birth_date_key text COLLATE "C",
    patient_sex text COLLATE "C" NOT NULL
);

-- A name index is searched far more often than a patient is new, so that
-- nothing is left in a pending list that each search would have to read.
CREATE INDEX patients_patient_id ON patients (patient_id);
CREATE INDEX patients_patient_birth_date ON patients (patient_birth_date_key);
CREATE INDEX patients_patient_name ON patients
    USING gin (patient_name_key gin_trgm_ops) WITH (fastupdate = off);

CREATE TABLE studies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    patient bigint NOT NULL REFERENCES patients,
    described_at timestamptz NOT NULL,
    described_by text COLLATE "C" NOT NULL,
    study_instance_uid text COLLATE "C" NOT NULL UNIQUE,
    -- The patient as this study has it: queries below the patient level match
    -- and return these.
    patient_id text COLLATE "C" NOT NULL,
    issuer_of_patient_id text COLLATE "C" NOT NULL,
    patient_name text COLLATE "C" NOT NULL,
    patient_name_key text COLLATE "C" NOT NULL,
    patient_birth_date text COLLATE "C" NOT NULL,
    patient_birth_date_key text COLLATE "C",
    patient_sex text COLLATE "C" NOT NULL,
    study_id text COLLATE "C" NOT NULL,
    study_date text COLLATE "C" NOT NULL,
    study_date_key text COLLATE "C",
    study_time text COLLATE "C" NOT NULL,
    study_time_key text COLLATE "C",
    accession_number text COLLATE "C" NOT NULL,
    study_description text COLLATE "C" NOT NULL,
    referring_physician_name text COLLATE "C" NOT NULL,
    referring_physician_name_key text COLLATE "C" NOT NULL
);

CREATE INDEX studies_patient ON studies (patient, described_at);
CREATE INDEX studies_patient_id ON studies (patient_id);
CREATE INDEX studies_patient_birth_date ON studies (patient_birth_date_key);
CREATE INDEX studies_study_id ON studies (study_id);
CREATE INDEX studies_study_date ON studies (study_date_key);
CREATE INDEX studies_accession_number ON studies (accession_number);
CREATE INDEX studies_patient_name ON studies
    USING gin (patient_name_key gin_trgm_ops) WITH (fastupdate = off);
CREATE INDEX studies_referring_physician_name ON studies
    USING gin (referring_physician_name_key gin_trgm_ops) WITH (fastupdate = off);

CREATE TABLE series (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    study bigint NOT NULL REFERENCES studies,
    described_at timestamptz NOT NULL,
    described_by text COLLATE "C" NOT NULL,
    instance_count bigint NOT NULL DEFAULT 0,
    size bigint NOT NULL DEFAULT 0,
    series_instance_uid text COLLATE "C" NOT NULL,
    series_number text COLLATE "C" NOT NULL,
    series_number_key bigint,
    modality text COLLATE "C" NOT NULL,
    series_description text COLLATE "C" NOT NULL,
    series_date text COLLATE "C" NOT NULL,
    series_date_key text COLLATE "C",
    series_time text COLLATE "C" NOT NULL,
    series_time_key text COLLATE "C",
    laterality text COLLATE "C" NOT NULL,
    body_part_examined text COLLATE "C" NOT NULL,
    patient_position text COLLATE "C" NOT NULL,
    anatomical_orientation_type text COLLATE "C" NOT NULL,
    UNIQUE (series_instance_uid, study)
    -- The counts change with each instance: room for them on the same page.
) WITH (fillfactor = 80);

CREATE INDEX series_study ON series (study, modality);

CREATE TABLE instances (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series bigint NOT NULL REFERENCES series,
    sop_instance_uid text COLLATE "C" NOT NULL UNIQUE,
    sop_class_uid text COLLATE "C" NOT NULL,
    transfer_syntax_uid text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    size bigint NOT NULL,
    path text COLLATE "C" NOT NULL,
    data_set_offset bigint NOT NULL,
    calling_ae_title text COLLATE "C" NOT NULL,
    called_ae_title text COLLATE "C" NOT NULL,
    source_address text COLLATE "C" NOT NULL,
    received_at timestamptz NOT NULL,
    instance_number text COLLATE "C" NOT NULL,
    instance_number_key bigint,
    instance_creation_date text COLLATE "C" NOT NULL,
    instance_creation_date_key text COLLATE "C",
    instance_creation_time text COLLATE "C" NOT NULL,
    instance_creation_time_key text COLLATE "C"
);

CREATE INDEX instances_series ON instances (series, instance_number_key);
-- Paths are long: their hashes find one, and the few distinct first folders
-- take a few bytes an instance, where an ordered index of paths would be the
-- largest of all.
CREATE INDEX instances_path ON instances USING hash (path);
CREATE INDEX instances_folder ON instances (split_part(path, '/', 1));

-- One instance to enter, as d360/index/rows.py makes it.
CREATE TYPE registration AS (
    duplicates text,
    relocated boolean,
    identity text,
    patient_id text,
    issuer_of_patient_id text,
    patient_name text,
    patient_name_key text,
    patient_birth_date text,
    patient_birth_date_key text,
    patient_sex text,
    study_instance_uid text,
    study_id text,
    study_date text,
    study_date_key text,
    study_time text,
    study_time_key text,
    accession_number text,
    study_description text,
    referring_physician_name text,
    referring_physician_name_key text,
    series_instance_uid text,
    series_number text,
    series_number_key bigint,
    modality text,
    series_description text,
    series_date text,
    series_date_key text,
    series_time text,
    series_time_key text,
    laterality text,
    body_part_examined text,
    patient_position text,
    anatomical_orientation_type text,
    sop_instance_uid text,
    sop_class_uid text,
    transfer_syntax_uid text,
    digest bytea,
    size bigint,
    path text,
    data_set_offset bigint,
    calling_ae_title text,
    called_ae_title text,
    source_address text,
    received_at timestamptz,
    instance_number text,
    instance_number_key bigint,
    instance_creation_date text,
    instance_creation_date_key text,
    instance_creation_time text,
    instance_creation_time_key text
);

CREATE TYPE registered AS (
    outcome text,
    path text,
    data_set_offset bigint,
    superseded_path text,
    superseded_offset bigint,
    patient_conflict boolean
);

-- Give a patient the demographics of the study described last.
CREATE FUNCTION describe_patient(the_patient bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE patients p
    SET patient_id = s.patient_id,
        issuer_of_patient_id = s.issuer_of_patient_id,
        patient_name = s.patient_name,
        patient_name_key = s.patient_name_key,
        patient_birth_date = s.patient_birth_date,
        patient_birth_date_key = s.patient_birth_date_key,
        patient_sex = s.patient_sex
    FROM (
        SELECT * FROM studies
        WHERE patient = the_patient
        ORDER BY described_at DESC, study_instance_uid DESC
        LIMIT 1
    ) s
    WHERE p.id = the_patient
    AND (p.patient_id, p.issuer_of_patient_id, p.patient_name, p.patient_name_key,
         p.patient_birth_date, p.patient_birth_date_key, p.patient_sex)
        IS DISTINCT FROM
        (s.patient_id, s.issuer_of_patient_id, s.patient_name, s.patient_name_key,
         s.patient_birth_date, s.patient_birth_date_key, s.patient_sex);
END
$$;

-- A study of this patient is gone: so is the patient, if it was the last.
CREATE FUNCTION tidy_patient(the_patient bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM studies WHERE patient = the_patient) THEN
        PERFORM describe_patient(the_patient);
    ELSE
        DELETE FROM patients WHERE id = the_patient;
    END IF;
END
$$;

CREATE FUNCTION enter_patient(entry registration) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    found_id bigint;
BEGIN
    SELECT id INTO found_id FROM patients WHERE identity = entry.identity;
    IF NOT FOUND THEN
        INSERT INTO patients (
            identity, patient_id, issuer_of_patient_id, patient_name,
            patient_name_key, patient_birth_date, patient_birth_date_key, patient_sex
        ) VALUES (
            entry.identity, entry.patient_id, entry.issuer_of_patient_id,
            entry.patient_name, entry.patient_name_key, entry.patient_birth_date,
            entry.patient_birth_date_key, entry.patient_sex
        ) RETURNING id INTO found_id;
    END IF;
    RETURN found_id;
END
$$;

-- Whether an instance is the one to describe an entity.
CREATE FUNCTION describes(
    entry registration, described_at timestamptz, described_by text
) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT entry.sop_instance_uid = described_by
        OR (entry.received_at, entry.sop_instance_uid COLLATE "C")
            < (described_at, described_by COLLATE "C")
$$;

CREATE FUNCTION enter_study(entry registration) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    known record;
    the_patient bigint;
    the_study bigint;
BEGIN
    SELECT s.id, s.patient, s.described_at, s.described_by INTO known
    FROM studies s WHERE s.study_instance_uid = entry.study_instance_uid;
    IF NOT FOUND THEN
        the_patient := enter_patient(entry);
        INSERT INTO studies (
            patient, described_at, described_by, study_instance_uid, patient_id,
            issuer_of_patient_id, patient_name, patient_name_key,
            patient_birth_date, patient_birth_date_key, patient_sex, study_id,
            study_date, study_date_key, study_time, study_time_key,
            accession_number, study_description, referring_physician_name,
            referring_physician_name_key
        ) VALUES (
            the_patient, entry.received_at, entry.sop_instance_uid,
            entry.study_instance_uid, entry.patient_id,
            entry.issuer_of_patient_id, entry.patient_name,
            entry.patient_name_key, entry.patient_birth_date,
            entry.patient_birth_date_key, entry.patient_sex, entry.study_id,
            entry.study_date, entry.study_date_key, entry.study_time,
            entry.study_time_key, entry.accession_number,
            entry.study_description, entry.referring_physician_name,
            entry.referring_physician_name_key
        ) RETURNING id INTO the_study;
        PERFORM describe_patient(the_patient);
        RETURN the_study;
    END IF;
    IF describes(entry, known.described_at, known.described_by) THEN
        the_patient := enter_patient(entry);
        UPDATE studies SET
            patient = the_patient,
            described_at = entry.received_at,
            described_by = entry.sop_instance_uid,
            patient_id = entry.patient_id,
            issuer_of_patient_id = entry.issuer_of_patient_id,
            patient_name = entry.patient_name,
            patient_name_key = entry.patient_name_key,
            patient_birth_date = entry.patient_birth_date,
            patient_birth_date_key = entry.patient_birth_date_key,
            patient_sex = entry.patient_sex,
            study_id = entry.study_id,
            study_date = entry.study_date,
            study_date_key = entry.study_date_key,
            study_time = entry.study_time,
            study_time_key = entry.study_time_key,
            accession_number = entry.accession_number,
            study_description = entry.study_description,
            referring_physician_name = entry.referring_physician_name,
            referring_physician_name_key = entry.referring_physician_name_key
        WHERE id = known.id;
        IF the_patient <> known.patient THEN
            PERFORM tidy_patient(known.patient);
        END IF;
        PERFORM describe_patient(the_patient);
    END IF;
    RETURN known.id;
END
$$;

CREATE FUNCTION enter_series(entry registration, the_study bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    known record;
    the_series bigint;
BEGIN
    SELECT e.id, e.described_at, e.described_by INTO known
    FROM series e
    WHERE e.series_instance_uid = entry.series_instance_uid AND e.study = the_study;
    IF NOT FOUND THEN
        INSERT INTO series (
            study, described_at, described_by, series_instance_uid,
            series_number, series_number_key, modality, series_description,
            series_date, series_date_key, series_time, series_time_key,
            laterality, body_part_examined, patient_position,
            anatomical_orientation_type
        ) VALUES (
            the_study, entry.received_at, entry.sop_instance_uid,
            entry.series_instance_uid, entry.series_number,
            entry.series_number_key, entry.modality, entry.series_description,
            entry.series_date, entry.series_date_key, entry.series_time,
            entry.series_time_key, entry.laterality, entry.body_part_examined,
            entry.patient_position, entry.anatomical_orientation_type
        ) RETURNING id INTO the_series;
        RETURN the_series;
    END IF;
    IF describes(entry, known.described_at, known.described_by) THEN
        UPDATE series SET
            described_at = entry.received_at,
            described_by = entry.sop_instance_uid,
            series_number = entry.series_number,
            series_number_key = entry.series_number_key,
            modality = entry.modality,
            series_description = entry.series_description,
            series_date = entry.series_date,
            series_date_key = entry.series_date_key,
            series_time = entry.series_time,
            series_time_key = entry.series_time_key,
            laterality = entry.laterality,
            body_part_examined = entry.body_part_examined,
            patient_position = entry.patient_position,
            anatomical_orientation_type = entry.anatomical_orientation_type
        WHERE id = known.id;
    END IF;
    RETURN known.id;
END
$$;

-- The series of an instance, entered or described anew where that is needed:
-- one look when it is not.
CREATE FUNCTION series_for(entry registration) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    known record;
BEGIN
    SELECT e.id,
        describes(entry, s.described_at, s.described_by)
        OR describes(entry, e.described_at, e.described_by) AS stale
    INTO known
    FROM studies s JOIN series e ON e.study = s.id
    WHERE s.study_instance_uid = entry.study_instance_uid
    AND e.series_instance_uid = entry.series_instance_uid;
    IF FOUND AND NOT known.stale THEN
        RETURN known.id;
    END IF;
    RETURN enter_series(entry, enter_study(entry));
END
$$;

CREATE FUNCTION enter_instance(entry registration) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    the_series bigint := series_for(entry);
BEGIN
    INSERT INTO instances (
        series, sop_instance_uid, sop_class_uid, transfer_syntax_uid, digest,
        size, path, data_set_offset, calling_ae_title, called_ae_title,
        source_address, received_at, instance_number, instance_number_key,
        instance_creation_date, instance_creation_date_key,
        instance_creation_time, instance_creation_time_key
    ) VALUES (
        the_series, entry.sop_instance_uid, entry.sop_class_uid,
        entry.transfer_syntax_uid, entry.digest, entry.size, entry.path,
        entry.data_set_offset, entry.calling_ae_title, entry.called_ae_title,
        entry.source_address, entry.received_at, entry.instance_number,
        entry.instance_number_key, entry.instance_creation_date,
        entry.instance_creation_date_key, entry.instance_creation_time,
        entry.instance_creation_time_key
    );
    UPDATE series SET instance_count = instance_count + 1, size = size + entry.size
    WHERE id = the_series;
END
$$;

-- The same bytes again where they are: what is read from them is written anew,
-- for another release may read more. What only the association knew is kept
-- where a rebuild from the file cannot say it.
CREATE FUNCTION refresh_instance(entry registration, known instances) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE instances SET
        sop_class_uid = entry.sop_class_uid,
        path = entry.path,
        data_set_offset = entry.data_set_offset,
        calling_ae_title = coalesce(nullif(entry.calling_ae_title, ''), calling_ae_title),
        called_ae_title = coalesce(nullif(entry.called_ae_title, ''), called_ae_title),
        source_address = coalesce(nullif(entry.source_address, ''), source_address),
        instance_number = entry.instance_number,
        instance_number_key = entry.instance_number_key,
        instance_creation_date = entry.instance_creation_date,
        instance_creation_date_key = entry.instance_creation_date_key,
        instance_creation_time = entry.instance_creation_time,
        instance_creation_time_key = entry.instance_creation_time_key
    WHERE id = known.id;
    entry.received_at := known.received_at;
    PERFORM series_for(entry);
END
$$;

-- A series has one instance less: so much of it, of its study and of their
-- patient as has none left is gone.
CREATE FUNCTION leave_series(the_series bigint, the_size bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    remaining record;
    the_patient bigint;
BEGIN
    UPDATE series e SET instance_count = e.instance_count - 1, size = e.size - the_size
    WHERE e.id = the_series
    RETURNING e.study, e.instance_count INTO STRICT remaining;
    IF remaining.instance_count > 0 THEN
        RETURN;
    END IF;
    DELETE FROM series WHERE id = the_series;
    IF EXISTS (SELECT FROM series WHERE study = remaining.study) THEN
        RETURN;
    END IF;
    DELETE FROM studies WHERE id = remaining.study RETURNING patient INTO the_patient;
    PERFORM tidy_patient(the_patient);
END
$$;

CREATE FUNCTION remove_instance(the_instance bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    gone record;
BEGIN
    DELETE FROM instances WHERE id = the_instance
    RETURNING series, size INTO STRICT gone;
    PERFORM leave_series(gone.series, gone.size);
END
$$;

-- Other bytes take the place of those that are known. The rows stay, so that a
-- query which has found them and is about to fetch them does not lose them.
CREATE FUNCTION replace_instance(entry registration, known instances) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    the_series bigint;
BEGIN
    -- What holds nothing else is described by nothing else.
    UPDATE series SET described_by = entry.sop_instance_uid
    WHERE id = known.series AND instance_count = 1;
    UPDATE studies SET described_by = entry.sop_instance_uid
    WHERE id = (SELECT e.study FROM series e WHERE e.id = known.series)
    AND (SELECT sum(e.instance_count) FROM series e WHERE e.study = studies.id) = 1;
    the_series := series_for(entry);
    UPDATE instances SET
        series = the_series,
        sop_class_uid = entry.sop_class_uid,
        transfer_syntax_uid = entry.transfer_syntax_uid,
        digest = entry.digest,
        size = entry.size,
        path = entry.path,
        data_set_offset = entry.data_set_offset,
        calling_ae_title = entry.calling_ae_title,
        called_ae_title = entry.called_ae_title,
        source_address = entry.source_address,
        received_at = entry.received_at,
        instance_number = entry.instance_number,
        instance_number_key = entry.instance_number_key,
        instance_creation_date = entry.instance_creation_date,
        instance_creation_date_key = entry.instance_creation_date_key,
        instance_creation_time = entry.instance_creation_time,
        instance_creation_time_key = entry.instance_creation_time_key
    WHERE id = known.id;
    UPDATE series SET instance_count = instance_count + 1, size = size + entry.size
    WHERE id = the_series;
    PERFORM leave_series(known.series, known.size);
END
$$;

CREATE FUNCTION register_instance(entry registration) RETURNS registered
LANGUAGE plpgsql AS $$
DECLARE
    known instances%ROWTYPE;
    same boolean;
    result registered := ROW(
        'stored', entry.path, entry.data_set_offset, NULL, NULL, false
    );
BEGIN
    result.patient_conflict := EXISTS (
        SELECT FROM studies s JOIN patients p ON p.id = s.patient
        WHERE s.study_instance_uid = entry.study_instance_uid
        AND p.identity <> entry.identity
    );
    SELECT * INTO known FROM instances i
    WHERE i.sop_instance_uid = entry.sop_instance_uid;
    IF NOT FOUND THEN
        PERFORM enter_instance(entry);
        RETURN result;
    END IF;

    same := known.digest = entry.digest
        AND known.transfer_syntax_uid = entry.transfer_syntax_uid;
    IF same AND known.path = entry.path THEN
        PERFORM refresh_instance(entry, known);
        result.outcome := 'duplicate';
    ELSIF same AND entry.relocated THEN
        PERFORM refresh_instance(entry, known);
        result.outcome := 'replaced';
        result.superseded_path := known.path;
        result.superseded_offset := known.data_set_offset;
    ELSIF known.path <> entry.path AND NOT entry.relocated AND (
        same
        OR entry.duplicates = 'keep'
        OR entry.duplicates = 'newest'
            AND (known.received_at, known.digest) > (entry.received_at, entry.digest)
    ) THEN
        result.outcome := CASE WHEN same THEN 'duplicate' ELSE 'kept' END;
        result.path := known.path;
        result.data_set_offset := known.data_set_offset;
        result.superseded_path := entry.path;
        result.superseded_offset := entry.data_set_offset;
    ELSE
        -- Also where the file was written over: what it was is gone.
        PERFORM replace_instance(entry, known);
        result.outcome := 'replaced';
        IF known.path <> entry.path THEN
            result.superseded_path := known.path;
            result.superseded_offset := known.data_set_offset;
        END IF;
    END IF;
    RETURN result;
END
$$;

-- Writers take turns, for as long as a batch and its commit last: so none
-- waits for a row of another, no two can wait for each other, and nothing is
-- emptied while another fills it.
CREATE FUNCTION take_turn() RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(360, 1)
$$;

-- Enter a batch: an array of objects, each a registration. One row for each,
-- in their order.
CREATE FUNCTION register_instances(batch json) RETURNS SETOF registered
LANGUAGE plpgsql AS $$
DECLARE
    entry registration;
BEGIN
    PERFORM take_turn();
    FOR entry IN
        SELECT * FROM json_populate_recordset(NULL::registration, batch)
    LOOP
        RETURN NEXT register_instance(entry);
    END LOOP;
END
$$;

-- Remove the instance that is entered with a path; whether there was one.
CREATE FUNCTION forget_instance(the_path text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    the_instance bigint;
    forgotten boolean := false;
BEGIN
    PERFORM take_turn();
    FOR the_instance IN SELECT id FROM instances WHERE path = the_path LOOP
        PERFORM remove_instance(the_instance);
        forgotten := true;
    END LOOP;
    RETURN forgotten;
END
$$;

-- Whether an instance is entered with a path, also by a batch that is still on
-- its way to its commit: its client may be gone, and know nothing of it.
CREATE FUNCTION is_entered(the_path text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM take_turn();
    RETURN EXISTS (SELECT FROM instances WHERE path = the_path);
END
$$;

-- The modality worklist (conformance 5): requested procedures and their
-- scheduled procedure steps. A column is named as d360/worklistattributes.py
-- names it; <column>_key holds the match key of the value beside it.

CREATE TABLE worklist_items (
    identifier text COLLATE "C" PRIMARY KEY,
    version integer NOT NULL,
    -- All of the item, in the DICOM JSON Model.
    attributes jsonb NOT NULL,
    -- The start of its first step.
    first_start text COLLATE "C" NOT NULL,
    study_instance_uid text COLLATE "C" NOT NULL UNIQUE,
    patient_id text COLLATE "C" NOT NULL,
    patient_name text COLLATE "C" NOT NULL,
    patient_name_key text COLLATE "C" NOT NULL,
    patient_birth_date text COLLATE "C" NOT NULL,
    patient_birth_date_key text COLLATE "C",
    patient_sex text COLLATE "C" NOT NULL,
    accession_number text COLLATE "C" NOT NULL,
    admission_id text COLLATE "C" NOT NULL,
    referring_physician_name text COLLATE "C" NOT NULL,
    referring_physician_name_key text COLLATE "C" NOT NULL,
    requesting_physician text COLLATE "C" NOT NULL,
    requesting_physician_key text COLLATE "C" NOT NULL,
    requested_procedure_id text COLLATE "C" NOT NULL,
    requested_procedure_priority text COLLATE "C" NOT NULL
);

CREATE INDEX worklist_items_first_start ON worklist_items (first_start, identifier);
CREATE INDEX worklist_items_patient_id ON worklist_items (patient_id);
CREATE INDEX worklist_items_patient_birth_date
    ON worklist_items (patient_birth_date_key);
CREATE INDEX worklist_items_accession_number ON worklist_items (accession_number);
CREATE INDEX worklist_items_admission_id ON worklist_items (admission_id);
CREATE INDEX worklist_items_requested_procedure_id
    ON worklist_items (requested_procedure_id);
CREATE INDEX worklist_items_patient_name ON worklist_items
    USING gin (patient_name_key gin_trgm_ops) WITH (fastupdate = off);

-- A row for each station that a step may be done at, mostly one. number is
-- that of the item in its Scheduled Procedure Step Sequence, from 0.
CREATE TABLE worklist_steps (
    item text COLLATE "C" NOT NULL REFERENCES worklist_items ON DELETE CASCADE,
    number integer NOT NULL,
    -- Date and time as one; empty without a date.
    start text COLLATE "C" NOT NULL,
    modality text COLLATE "C" NOT NULL,
    scheduled_station_ae_title text COLLATE "C" NOT NULL,
    scheduled_procedure_step_start_date text COLLATE "C" NOT NULL,
    scheduled_procedure_step_start_date_key text COLLATE "C",
    scheduled_procedure_step_start_time text COLLATE "C" NOT NULL,
    scheduled_procedure_step_start_time_key text COLLATE "C",
    scheduled_performing_physician_name text COLLATE "C" NOT NULL,
    scheduled_performing_physician_name_key text COLLATE "C" NOT NULL,
    scheduled_procedure_step_id text COLLATE "C" NOT NULL
);

CREATE INDEX worklist_steps_item ON worklist_steps (item);
CREATE INDEX worklist_steps_start ON worklist_steps (start, item, number);
CREATE INDEX worklist_steps_start_date
    ON worklist_steps (scheduled_procedure_step_start_date_key, modality);
CREATE INDEX worklist_steps_station ON worklist_steps
    (scheduled_station_ae_title, scheduled_procedure_step_start_date_key);

-- Writers take turns, so that what one has looked at stays until its commit
-- (360, 1 is the turn of those who store, 360, 2 that of migrations).
CREATE FUNCTION take_worklist_turn() RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(360, 3)
$$;

-- Enter what d360/index/worklist.py has made of an item: its row, and those of
-- its steps as an array.
CREATE FUNCTION enter_worklist_item(
    the_identifier text, the_version integer, item jsonb, steps jsonb
) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO worklist_items
    SELECT * FROM jsonb_populate_record(
        NULL::worklist_items,
        item || jsonb_build_object(
            'identifier', the_identifier, 'version', the_version)
    );
    INSERT INTO worklist_steps
    SELECT entered.* FROM jsonb_array_elements(steps) step,
        LATERAL jsonb_populate_record(
            NULL::worklist_steps,
            step || jsonb_build_object('item', the_identifier)
        ) entered;
$$;

-- The version that the item with a Study Instance UID has now: 1 for a new
-- one, 0 where it is another item's.
CREATE FUNCTION schedule_worklist_item(
    the_identifier text, the_item jsonb, steps jsonb
) RETURNS integer
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM take_worklist_turn();
    IF EXISTS (
        SELECT FROM worklist_items i
        WHERE i.study_instance_uid = the_item ->> 'study_instance_uid'
    ) THEN
        RETURN 0;
    END IF;
    PERFORM enter_worklist_item(the_identifier, 1, the_item, steps);
    RETURN 1;
END
$$;

-- The version that an item has now; NULL where there is none, -1 where it was
-- not the version that should be replaced, 0 as above.
CREATE FUNCTION replace_worklist_item(
    the_identifier text, the_version integer, the_item jsonb, steps jsonb
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    known integer;
BEGIN
    PERFORM take_worklist_turn();
    SELECT version INTO known FROM worklist_items WHERE identifier = the_identifier;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF the_version <> known THEN
        RETURN -1;
    END IF;
    IF EXISTS (
        SELECT FROM worklist_items i
        WHERE i.study_instance_uid = the_item ->> 'study_instance_uid'
            AND i.identifier <> the_identifier
    ) THEN
        RETURN 0;
    END IF;
    DELETE FROM worklist_items WHERE identifier = the_identifier;
    PERFORM enter_worklist_item(the_identifier, known + 1, the_item, steps);
    RETURN known + 1;
END
$$;

-- The version that was removed; NULL and -1 as above.
CREATE FUNCTION remove_worklist_item(the_identifier text, the_version integer)
RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    known integer;
BEGIN
    PERFORM take_worklist_turn();
    SELECT version INTO known FROM worklist_items WHERE identifier = the_identifier;
    IF the_version <> known THEN
        RETURN -1;
    END IF;
    DELETE FROM worklist_items WHERE identifier = the_identifier;
    RETURN known;
END
$$;

-- Remove the items of which each step starts before a day; how many.
CREATE FUNCTION remove_old_worklist_items(before text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM take_worklist_turn();
    DELETE FROM worklist_items i
    WHERE i.first_start < before AND NOT EXISTS (
        SELECT FROM worklist_steps s
        WHERE s.item = i.identifier AND (s.start >= before OR s.start = '')
    );
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;

-- Remove the items whose study is stored; how many.
CREATE FUNCTION remove_arrived_worklist_items() RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM take_worklist_turn();
    DELETE FROM worklist_items i USING studies s
    WHERE s.study_instance_uid = i.study_instance_uid;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;

-- Instances are entered while their files are still being synced, and confirmed
-- when that is done: so the disk and the database work at the same time. What
-- was entered and not confirmed when the power went may have no file, or not all
-- of it.
--
-- A process that enters instances keeps one number here: none of its instances
-- below it lacks a confirmation. It may be lower than it could be, by some
-- hundreds, so as not to be written with each batch. A process that has nothing
-- left to confirm has no row, a moment later.

CREATE TABLE unconfirmed (
    writer text COLLATE "C" PRIMARY KEY,
    lowest bigint NOT NULL
);

ALTER TYPE registered ADD ATTRIBUTE id bigint;

CREATE FUNCTION insert_instance(entry registration, the_series bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    the_id bigint;
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
    ) RETURNING id INTO the_id;
    UPDATE series SET instance_count = instance_count + 1, size = size + entry.size
    WHERE id = the_series;
    RETURN the_id;
END
$$;

-- What the index had already, and what becomes of it.
CREATE FUNCTION register_again(
    entry registration, known instances, result registered
) RETURNS registered
LANGUAGE plpgsql AS $$
DECLARE
    same boolean := known.digest = entry.digest
        AND known.transfer_syntax_uid = entry.transfer_syntax_uid;
BEGIN
    IF entry.duplicates = 'announced' THEN
        result.outcome := 'known';
    ELSIF same AND known.path = entry.path THEN
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

CREATE OR REPLACE FUNCTION register_instance(entry registration) RETURNS registered
LANGUAGE plpgsql AS $$
DECLARE
    place record;
    known instances%ROWTYPE;
    result registered := ROW(
        'stored', entry.path, entry.data_set_offset, NULL, NULL, false, NULL
    );
BEGIN
    -- One look tells all, where the series is there and stays as it is.
    SELECT e.id, p.identity <> entry.identity AS conflict,
        describes(entry, s.described_at, s.described_by)
        OR describes(entry, e.described_at, e.described_by) AS stale
    INTO place
    FROM studies s
    JOIN patients p ON p.id = s.patient
    LEFT JOIN series e
        ON e.study = s.id AND e.series_instance_uid = entry.series_instance_uid
    WHERE s.study_instance_uid = entry.study_instance_uid;
    result.patient_conflict := coalesce(place.conflict, false);

    SELECT * INTO known FROM instances i
    WHERE i.sop_instance_uid = entry.sop_instance_uid;
    IF FOUND THEN
        RETURN register_again(entry, known, result);
    END IF;
    IF place.id IS NULL OR place.stale THEN
        place.id := enter_series(entry, enter_study(entry));
    END IF;
    result.id := insert_instance(entry, place.id);
    RETURN result;
END
$$;

DROP FUNCTION enter_instance(registration);

-- Enter a batch: an array of objects, each a registration. One row for each,
-- in their order.
--
-- the_lowest: the lowest of the caller's instances that are not confirmed yet.
DROP FUNCTION register_instances(json);
CREATE FUNCTION register_instances(
    batch json, the_writer text, the_lowest bigint
) RETURNS SETOF registered
LANGUAGE plpgsql AS $$
DECLARE
    entry registration;
    result registered;
BEGIN
    PERFORM take_turn();
    FOR entry IN
        SELECT * FROM json_populate_recordset(NULL::registration, batch)
    LOOP
        result := register_instance(entry);
        IF entry.duplicates = 'announced' THEN
            the_lowest := least(the_lowest, result.id);
        END IF;
        RETURN NEXT result;
    END LOOP;
    IF the_lowest IS NOT NULL THEN
        INSERT INTO unconfirmed AS u (writer, lowest) VALUES (the_writer, the_lowest)
        ON CONFLICT (writer) DO UPDATE SET lowest = excluded.lowest
        WHERE excluded.lowest NOT BETWEEN u.lowest AND u.lowest + 500;
    END IF;
END
$$;

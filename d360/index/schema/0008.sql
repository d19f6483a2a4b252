-- What people are shown of storage commitments that nobody was told of yet, and
-- what tells those that somebody sees to now from those that wait.

ALTER TABLE commitment_requests
    ADD COLUMN instances integer NOT NULL
        GENERATED ALWAYS AS (cardinality(sop_instance_uids)) STORED,
    -- When it could not be told last.
    ADD COLUMN failed_at timestamptz,
    -- Why; empty where it was not tried, and NULL while somebody sees to it. Nobody
    -- sees to those that are here already.
    ADD COLUMN failure text DEFAULT '';

ALTER TABLE commitment_requests ALTER COLUMN failure DROP DEFAULT;

-- Worklist items that are removed by themselves are given back, for the audit trail;
-- so many at a time.
DROP FUNCTION remove_old_worklist_items(text);
DROP FUNCTION remove_arrived_worklist_items();

-- Remove items of which each step starts before a day.
CREATE FUNCTION remove_old_worklist_items(before text, most integer)
RETURNS SETOF worklist_items
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM take_worklist_turn();
    RETURN QUERY DELETE FROM worklist_items i WHERE i.identifier IN (
        SELECT o.identifier FROM worklist_items o
        WHERE o.first_start < before AND NOT EXISTS (
            SELECT FROM worklist_steps s
            WHERE s.item = o.identifier AND (s.start >= before OR s.start = '')
        ) LIMIT most
    ) RETURNING i.*;
END
$$;

-- Remove items whose study is stored.
CREATE FUNCTION remove_arrived_worklist_items(most integer)
RETURNS SETOF worklist_items
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM take_worklist_turn();
    RETURN QUERY DELETE FROM worklist_items i WHERE i.identifier IN (
        SELECT o.identifier FROM worklist_items o
        JOIN studies s ON s.study_instance_uid = o.study_instance_uid LIMIT most
    ) RETURNING i.*;
END
$$;

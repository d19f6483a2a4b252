-- Storage commitments that were asked for (PS3.4 Annex J) and not told of yet.

CREATE TABLE commitment_requests (
    identifier bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ae_title text COLLATE "C" NOT NULL,
    transaction_uid text COLLATE "C" NOT NULL,
    -- Of the instances, one by one.
    sop_class_uids text[] COLLATE "C" NOT NULL,
    sop_instance_uids text[] COLLATE "C" NOT NULL,
    -- What was found of each of them, and when: 0, or a Failure Reason.
    reasons integer[],
    checked_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    received_at timestamptz NOT NULL DEFAULT now(),
    -- When somebody is to see to it: who does puts it off for a while.
    due_at timestamptz NOT NULL,
    UNIQUE (ae_title, transaction_uid)
);

CREATE INDEX commitment_requests_due_at ON commitment_requests (due_at);

-- What a remote AE may ask of us, and how it shows who it is. Those that were
-- there before may do whatever they could do until now.

ALTER TABLE remote_aes
    ADD permissions text[] NOT NULL DEFAULT '{store,query,retrieve,worklist}'
        CHECK (permissions <@ '{store,query,retrieve,worklist}'),
    ADD tls boolean NOT NULL DEFAULT false,
    ADD certificate text COLLATE "C" NOT NULL DEFAULT ''
        CHECK (certificate ~ '^([0-9a-f]{64})?$');

-- From now on whoever adds one says all of it.
ALTER TABLE remote_aes
    ALTER permissions DROP DEFAULT,
    ALTER tls DROP DEFAULT,
    ALTER certificate DROP DEFAULT;

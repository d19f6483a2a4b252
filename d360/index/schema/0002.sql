-- The remote AEs (conformance 4.2.3). What is no title, host or port by
-- d360/addresses.py never gets here; the checks hold off what would break us.

CREATE TABLE remote_aes (
    title text COLLATE "C" PRIMARY KEY
        CHECK (length(title) BETWEEN 1 AND 16 AND title = btrim(title)),
    host text COLLATE "C" NOT NULL CHECK (length(host) BETWEEN 1 AND 253),
    port integer NOT NULL CHECK (port BETWEEN 1 AND 65535)
);

-- Names by their beginning. Of a name that begins with "Rossi" the trigrams are
-- those of very many others once there are a million, so that an ordered index
-- finds what begins with a text, and a name as a whole. It is blind to the
-- second and third component group (ideographic, phonetic); names that have
-- one are few in most archives, and have a trigram index to themselves.
-- d360/index/sql.py asks for both, with the condition of the second as it
-- stands here.

CREATE INDEX patients_patient_name_start ON patients (patient_name_key);
CREATE INDEX patients_patient_name_groups ON patients
    USING gin (patient_name_key gin_trgm_ops) WITH (fastupdate = off)
    WHERE patient_name_key LIKE '=%=%=';

CREATE INDEX studies_patient_name_start ON studies (patient_name_key);
CREATE INDEX studies_patient_name_groups ON studies
    USING gin (patient_name_key gin_trgm_ops) WITH (fastupdate = off)
    WHERE patient_name_key LIKE '=%=%=';

CREATE INDEX worklist_items_patient_name_start ON worklist_items (patient_name_key);
CREATE INDEX worklist_items_patient_name_groups ON worklist_items
    USING gin (patient_name_key gin_trgm_ops) WITH (fastupdate = off)
    WHERE patient_name_key LIKE '=%=%=';

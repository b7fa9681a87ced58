-- Which contact of a HubSpot account has a phone number, by a keyed look-up of the number; kept for a day at most.
CREATE TABLE hubspot_contacts (
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    destination_id text NOT NULL REFERENCES destinations (id) ON DELETE CASCADE,
    lookup bytea NOT NULL,
    contact_id text,                         -- null: there was none
    PRIMARY KEY (destination_id, lookup)
);
CREATE INDEX hubspot_contacts_age ON hubspot_contacts (found_at);
CREATE INDEX hubspot_contacts_lookup ON hubspot_contacts (lookup);

-- Of which message the "current status" of a contact was last told, so that it never steps back.
CREATE TABLE hubspot_current (
    opened_at timestamptz NOT NULL,          -- of the message
    message_id bigint NOT NULL,
    version integer NOT NULL,
    destination_id text NOT NULL REFERENCES destinations (id) ON DELETE CASCADE,
    contact_id text NOT NULL,
    PRIMARY KEY (destination_id, contact_id)
);

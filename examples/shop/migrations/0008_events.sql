-- What leaves the shop: an outbox, those who listen, and what they were sent.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    payload jsonb NOT NULL,
    dispatched_at timestamptz
);
CREATE INDEX outbox_waiting ON outbox (id) WHERE dispatched_at IS NULL;

CREATE TABLE webhooks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    url text NOT NULL,
    UNIQUE (topic, url)
);

CREATE TABLE deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    outbox_id bigint NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    webhook_id bigint NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    UNIQUE (outbox_id, webhook_id)
);
CREATE INDEX deliveries_webhook ON deliveries (webhook_id);

-- Money in, money back, and the papers for it.
CREATE TABLE payment_methods (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    enabled boolean NOT NULL DEFAULT true
);

CREATE TABLE payments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES orders (id),
    method_id bigint NOT NULL REFERENCES payment_methods (id),
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    idempotency_key text NOT NULL UNIQUE,
    paid_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX payments_order ON payments (order_id);

CREATE TABLE refunds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id bigint NOT NULL REFERENCES payments (id),
    amount_cents bigint NOT NULL CHECK (amount_cents > 0),
    reason text NOT NULL
);
CREATE INDEX refunds_payment ON refunds (payment_id);

CREATE SEQUENCE invoice_number_seq;
CREATE TABLE invoices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL UNIQUE REFERENCES orders (id),
    number text NOT NULL UNIQUE DEFAULT 'INV-' || lpad(nextval('invoice_number_seq')::text, 6, '0'),
    total_cents bigint NOT NULL
);
-- Owned, so that `TRUNCATE … RESTART IDENTITY` restarts it too.
ALTER SEQUENCE invoice_number_seq OWNED BY invoices.number;

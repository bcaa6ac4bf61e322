-- What management reads. A schema of its own, refreshed in the background.
CREATE SCHEMA reporting;

CREATE TABLE reporting.runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'done', 'failed')),
    started_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE reporting.product_sales (
    product_id bigint PRIMARY KEY REFERENCES public.products (id) ON DELETE CASCADE,
    run_id bigint NOT NULL REFERENCES reporting.runs (id),
    sold integer NOT NULL,
    revenue_cents bigint NOT NULL
);
CREATE INDEX product_sales_revenue ON reporting.product_sales (revenue_cents DESC);

CREATE VIEW reporting.order_balance AS
SELECT o.id AS order_id,
       o.total_cents,
       coalesce(p.paid, 0)::bigint AS paid_cents,
       coalesce(p.refunded, 0)::bigint AS refunded_cents,
       (o.total_cents - coalesce(p.paid, 0))::bigint AS due_cents
FROM orders o
LEFT JOIN LATERAL (
    SELECT sum(pay.amount_cents) AS paid,
           sum((SELECT sum(r.amount_cents) FROM refunds r WHERE r.payment_id = pay.id)) AS refunded
    FROM payments pay
    WHERE pay.order_id = o.id
) p ON true;

-- What was bought, and what became of it.
CREATE TYPE order_status AS ENUM ('placed', 'paid', 'shipped', 'returned', 'refunded', 'cancelled');

CREATE TABLE shipping_methods (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    name text NOT NULL,
    price_cents bigint NOT NULL CHECK (price_cents >= 0)
);

CREATE TABLE coupons (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE,
    percent integer NOT NULL CHECK (percent BETWEEN 1 AND 100),
    uses_left integer NOT NULL CHECK (uses_left >= 0)
);

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    number text GENERATED ALWAYS AS ('SO-' || lpad(id::text, 6, '0')) STORED UNIQUE,
    customer_id bigint NOT NULL REFERENCES customers (id),
    shipping_method_id bigint NOT NULL REFERENCES shipping_methods (id),
    status order_status NOT NULL DEFAULT 'placed',
    currency char(3) NOT NULL REFERENCES currencies (code),
    subtotal_cents bigint NOT NULL CHECK (subtotal_cents >= 0),
    discount_cents bigint NOT NULL CHECK (discount_cents BETWEEN 0 AND subtotal_cents),
    tax_cents bigint NOT NULL CHECK (tax_cents >= 0),
    shipping_cents bigint NOT NULL CHECK (shipping_cents >= 0),
    total_cents bigint GENERATED ALWAYS AS (subtotal_cents - discount_cents + tax_cents + shipping_cents) STORED,
    placed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_customer ON orders (customer_id);
CREATE INDEX orders_open ON orders (placed_at) WHERE status IN ('placed', 'paid');

CREATE TABLE order_lines (
    order_id bigint NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    product_id bigint NOT NULL REFERENCES products (id),
    quantity integer NOT NULL CHECK (quantity > 0),
    unit_cents bigint NOT NULL CHECK (unit_cents > 0),
    line_cents bigint GENERATED ALWAYS AS (quantity * unit_cents) STORED,
    PRIMARY KEY (order_id, product_id)
);
CREATE INDEX order_lines_product ON order_lines (product_id);

CREATE TABLE order_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    status order_status NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX order_events_order ON order_events (order_id);

CREATE TABLE reservations (
    order_id bigint NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    product_id bigint NOT NULL,
    warehouse_id bigint NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id, warehouse_id),
    FOREIGN KEY (warehouse_id, product_id) REFERENCES stock_levels (warehouse_id, product_id)
);
CREATE INDEX reservations_stock ON reservations (warehouse_id, product_id);

CREATE TABLE coupon_redemptions (
    coupon_id bigint NOT NULL REFERENCES coupons (id),
    order_id bigint NOT NULL UNIQUE REFERENCES orders (id) ON DELETE CASCADE,
    PRIMARY KEY (coupon_id, order_id)
);

CREATE TABLE shipments (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL UNIQUE REFERENCES orders (id),
    tracking text NOT NULL UNIQUE,
    shipped_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE shipment_lines (
    shipment_id bigint NOT NULL REFERENCES shipments (id) ON DELETE CASCADE,
    product_id bigint NOT NULL REFERENCES products (id),
    warehouse_id bigint NOT NULL REFERENCES warehouses (id),
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (shipment_id, product_id, warehouse_id)
);

CREATE TABLE returns (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id bigint NOT NULL REFERENCES orders (id),
    reason text NOT NULL
);
CREATE INDEX returns_order ON returns (order_id);

CREATE TABLE return_lines (
    return_id bigint NOT NULL REFERENCES returns (id) ON DELETE CASCADE,
    product_id bigint NOT NULL REFERENCES products (id),
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (return_id, product_id)
);

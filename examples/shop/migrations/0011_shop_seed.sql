-- Seed rows of the shop's own lists. Only INSERTs without ids, as in the file before.
INSERT INTO roles (name) VALUES ('clerk'), ('buyer'), ('manager');

INSERT INTO permissions (code) VALUES
    ('orders.read'), ('orders.refund'), ('stock.receive'), ('settings.write'), ('staff.write');

INSERT INTO role_permissions (role_id, permission_id)
SELECT r.id, p.id FROM roles r, permissions p
WHERE r.name = 'manager'
   OR (r.name = 'clerk' AND p.code = 'orders.read')
   OR (r.name = 'buyer' AND p.code IN ('orders.read', 'stock.receive'))
ORDER BY r.id, p.id;

INSERT INTO categories (slug, name) VALUES
    ('books', 'Books'), ('music', 'Music'), ('kitchen', 'Kitchen'), ('garden', 'Garden'), ('toys', 'Toys');

INSERT INTO categories (parent_id, slug, name)
SELECT c.id, child.slug, child.name
FROM (VALUES ('books', 'novels', 'Novels'), ('books', 'atlases', 'Atlases'), ('music', 'vinyl', 'Vinyl'),
             ('kitchen', 'knives', 'Knives'), ('garden', 'tools', 'Tools')) AS child (parent, slug, name)
JOIN categories c ON c.slug = child.parent
ORDER BY c.id, child.slug;

INSERT INTO customer_tiers (name, discount_basis_points) VALUES ('basic', 0), ('silver', 250), ('gold', 500);

INSERT INTO warehouses (code, name) VALUES ('MAIN', 'Main warehouse'), ('ANNEX', 'Annex');

INSERT INTO shipping_methods (code, name, price_cents) VALUES
    ('pickup', 'Pick up in the shop', 0), ('standard', 'Standard parcel', 490), ('express', 'Express', 1290);

INSERT INTO payment_methods (code, enabled) VALUES ('card', true), ('transfer', true), ('cheque', false);

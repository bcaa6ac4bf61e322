-- Seed rows of the reference tables. Only INSERTs without ids: they can be run again after TRUNCATE … RESTART IDENTITY.
INSERT INTO countries (code, name, is_eu) VALUES
    ('AT', 'Austria', true), ('BE', 'Belgium', true), ('BG', 'Bulgaria', true), ('CH', 'Switzerland', false),
    ('CZ', 'Czechia', true), ('DE', 'Germany', true), ('DK', 'Denmark', true), ('EE', 'Estonia', true),
    ('ES', 'Spain', true), ('FI', 'Finland', true), ('FR', 'France', true), ('GB', 'United Kingdom', false),
    ('GR', 'Greece', true), ('HR', 'Croatia', true), ('HU', 'Hungary', true), ('IE', 'Ireland', true),
    ('IT', 'Italy', true), ('LT', 'Lithuania', true), ('LV', 'Latvia', true), ('NL', 'Netherlands', true),
    ('NO', 'Norway', false), ('PL', 'Poland', true), ('PT', 'Portugal', true), ('RO', 'Romania', true),
    ('SE', 'Sweden', true), ('SI', 'Slovenia', true), ('SK', 'Slovakia', true), ('US', 'United States', false);

INSERT INTO currencies (code, name, minor_units) VALUES
    ('EUR', 'Euro', 2), ('USD', 'US dollar', 2), ('GBP', 'Pound sterling', 2),
    ('CHF', 'Swiss franc', 2), ('JPY', 'Yen', 0);

INSERT INTO languages (code, name) VALUES
    ('de', 'German'), ('en', 'English'), ('es', 'Spanish'), ('fr', 'French'), ('it', 'Italian'), ('pl', 'Polish');

INSERT INTO tax_rates (country_code, kind, basis_points) VALUES
    ('DE', 'standard', 1900), ('DE', 'reduced', 700), ('FR', 'standard', 2000), ('FR', 'reduced', 550),
    ('AT', 'standard', 2000), ('IT', 'standard', 2200), ('ES', 'standard', 2100), ('NL', 'standard', 2100),
    ('PL', 'standard', 2300), ('GB', 'standard', 2000), ('CH', 'standard', 810), ('US', 'standard', 0);

INSERT INTO settings (key, value) VALUES
    ('shop.name', 'The Corner Shop'), ('shop.currency', 'EUR'), ('stock.low', '5'),
    ('returns.days', '30'), ('loyalty.cents_per_point', '100');

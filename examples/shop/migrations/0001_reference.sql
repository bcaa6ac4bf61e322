-- What the rest refers to: countries, currencies, languages, taxes, settings.
CREATE TABLE countries (
    code char(2) PRIMARY KEY,
    name text NOT NULL UNIQUE,
    is_eu boolean NOT NULL DEFAULT false
);

CREATE TABLE currencies (
    code char(3) PRIMARY KEY,
    name text NOT NULL,
    minor_units smallint NOT NULL DEFAULT 2 CHECK (minor_units BETWEEN 0 AND 4)
);

CREATE TABLE languages (
    code char(2) PRIMARY KEY,
    name text NOT NULL UNIQUE
);

CREATE TABLE tax_rates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    country_code char(2) NOT NULL REFERENCES countries (code),
    kind text NOT NULL CHECK (kind IN ('standard', 'reduced')),
    basis_points integer NOT NULL CHECK (basis_points BETWEEN 0 AND 10000),
    percent numeric(5, 2) GENERATED ALWAYS AS (basis_points / 100.0) STORED,
    UNIQUE (country_code, kind)
);

CREATE TABLE settings (
    key text PRIMARY KEY,
    value text NOT NULL,
    version integer NOT NULL DEFAULT 1
);

-- Tables 0 to 4: a parent and its four children, as a service has them by the dozen.
CREATE TABLE t00 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t00 (name);
CREATE INDEX ON t00 (value);
CREATE TABLE t01 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t00,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t01 (name);
CREATE INDEX ON t01 (value);
CREATE TABLE t02 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t00,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t02 (name);
CREATE INDEX ON t02 (value);
CREATE TABLE t03 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t00,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t03 (name);
CREATE INDEX ON t03 (value);
CREATE TABLE t04 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t00,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t04 (name);
CREATE INDEX ON t04 (value);

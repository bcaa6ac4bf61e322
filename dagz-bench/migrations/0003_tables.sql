-- Tables 10 to 14: a parent and its four children, as a service has them by the dozen.
CREATE TABLE t10 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t10 (name);
CREATE INDEX ON t10 (value);
CREATE TABLE t11 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t10,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t11 (name);
CREATE INDEX ON t11 (value);
CREATE TABLE t12 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t10,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t12 (name);
CREATE INDEX ON t12 (value);
CREATE TABLE t13 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t10,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t13 (name);
CREATE INDEX ON t13 (value);
CREATE TABLE t14 (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent bigint REFERENCES t10,
    name text NOT NULL,
    value integer NOT NULL,
    made timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON t14 (name);
CREATE INDEX ON t14 (value);
